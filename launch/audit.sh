#!/usr/bin/env bash
# Whether requirements.lock has packages of known vulnerabilities (pip-audit), and is still what pyproject.toml asks for
# (uv). In .venv-audit, made if missing. Status 1 if not; 3 if the network offers no advisories or packages, which is said.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv-audit
if [ ! -e "$VENV/.installed" ]; then
  echo "== making $VENV" >&2
  if ! { "${PYTHON:-python3}" -m venv "$VENV" && "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit uv; } >&2; then
    echo "error: pip-audit and uv cannot be installed here; nothing was checked" >&2
    exit 3
  fi
  touch "$VENV/.installed"
fi
status=0 audited=0

echo "== known vulnerabilities" >&2
"$VENV/bin/pip-audit" --requirement requirements.lock --require-hashes --disable-pip --progress-spinner off \
  > "$VENV/audit.txt" 2>&1 || audited=$?
if grep -q -E "ConnectionError|ConnectTimeout|Max retries|HTTPError|Service Unavailable|ProxyError" "$VENV/audit.txt"; then
  echo "not checked: the advisories cannot be reached from here" >&2
  status=3
elif grep -q "could not be audited" "$VENV/audit.txt"; then
  echo "not checked: here are no advisories for $(grep -c "could not be audited" "$VENV/audit.txt") packages" >&2
  status=3
else
  cat "$VENV/audit.txt" >&2
fi
if grep -v "could not be audited" "$VENV/audit.txt" | grep -E "GHSA-|PYSEC-|CVE-" > /dev/null; then
  status=1
elif [ $audited -ne 0 ] && [ $status -eq 0 ]; then
  echo "not checked: pip-audit failed" >&2
  status=3
fi

echo "== the lock" >&2
cp requirements.lock "$VENV/fresh.lock" # from which uv keeps what still fits
if ! "$VENV/bin/uv" pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes --no-header \
  --no-emit-index-url --quiet --output-file "$VENV/fresh.lock" > /dev/null; then
  echo "not checked: uv failed, for the reason above" >&2
  [ $status -ne 0 ] || status=3
elif diff <(grep -oE '^[^ ]+==[^ ]+' requirements.lock) <(grep -oE '^[^ ]+==[^ ]+' "$VENV/fresh.lock") >&2; then
  echo "requirements.lock is what pyproject.toml asks for" >&2
else
  echo "requirements.lock is not: run launch/lock.sh" >&2
  status=1
fi
exit $status
