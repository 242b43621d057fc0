#!/usr/bin/env bash
# Lint, types and tests, in .venv (made if missing). Arguments go to pytest: ./launch/test.sh -m slow, ./launch/test.sh tests/data
source "$(dirname "$0")/environment.sh"

ruff check .
ruff format --check .
mypy
pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder "$@"  # else long files of few tests come last
[ $# -gt 0 ] && exit
if command -v chromium > /dev/null; then
  pytest -m browser tests/serving/test_browser.py
else
  echo "== the page was not tested in a browser: chromium is not installed (apt-get install chromium)" >&2
fi
