# shellcheck shell=bash
# Sourced by the other scripts: stands in the repository's root with .venv there, installed from requirements.lock.
# PYTHON names another interpreter than the first of those below, VENV another folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=${VENV:-.venv}

find_python() {
  local candidate candidates=(python3.12 python3.13 python3.11 python3 python)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11, 3.12 or 3.13 is needed; found $("${PYTHON:-python3}" --version 2>&1). PYTHON=/path/to/python names one." >&2
  return 1
}

install() {
  local wanted
  wanted=$(cat pyproject.toml requirements.lock | cksum)
  [ "$(cat "$VENV/.installed" 2>/dev/null)" = "$wanted" ] && return
  if ! "$VENV/bin/python" -m pip --version > /dev/null 2>&1; then
    local python
    python=$(find_python)
    echo "== making $VENV with $("$python" --version)" >&2
    "$python" -m venv "$VENV"
  fi
  echo "== installing from requirements.lock (about a minute)" >&2
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock >&2
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable . >&2
  echo "$wanted" > "$VENV/.installed"
}

install
PATH="$(cd "$VENV" && pwd)/bin:$PATH"
