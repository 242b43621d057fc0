#!/usr/bin/env bash
# The tests on every supported Python that is named, each in an environment of its own, and the JAX that the lock gives it:
# ./launch/test_pythons.sh python3.11 python3.12 python3.13
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
for python in "$@"; do
  venv=.venv-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  echo "== $("$python" --version)"
  if PYTHON=$python VENV=$venv ./launch/test.sh; then result=passed; else result=failed status=1; fi
  echo "== $("$python" --version), JAX $("$venv/bin/python" -c 'import jax; print(jax.__version__)'): $result"
done
exit $status
