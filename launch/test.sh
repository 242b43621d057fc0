#!/usr/bin/env bash
# Lint, types and tests, in .venv (made if missing). Arguments go to pytest: ./launch/test.sh -m slow, ./launch/test.sh tests/data
source "$(dirname "$0")/environment.sh"

ruff check .
ruff format --check .
mypy
pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder "$@"  # else long files of few tests come last
