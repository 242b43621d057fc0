#!/usr/bin/env bash
# Converts an exported run to ONNX beside it, and checks it with onnxruntime: ./launch/onnx.sh runs/report/export
# In .venv-onnx, made if missing: jax2onnx needs an older Orbax than ours.
set -euo pipefail
if [ ! -f "${1:-}/card.json" ]; then
  echo "error: '${1:-}' is not an export; python -m cervix_jax.export --workdir=RUN --output=DIR makes one" >&2
  exit 2
fi
EXPORT=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

VENV=.venv-onnx
if [ ! -e "$VENV/.installed" ]; then
  echo "== making $VENV" >&2
  "${PYTHON:-python3}" -m venv "$VENV"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check jax2onnx==0.17.1 onnxruntime==1.32.0 jaxtyping safetensors >&2
  touch "$VENV/.installed"
fi
PYTHONPATH=. JAX_PLATFORMS=cpu "$VENV/bin/python" launch/convert_to_onnx.py "$EXPORT"
