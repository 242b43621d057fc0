#!/usr/bin/env bash
# A program as N processes on this machine's CPU: ./launch/local.sh 2 train --config=... --workdir=... (or evaluate). Ctrl-C and
# SIGTERM reach all; if one fails, the others end. The script's status is that of the first that failed.
set -euo pipefail
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]] || [ $# -lt 2 ]; then
  echo "usage: $0 PROCESSES PROGRAM [FLAGS]; PROGRAM is train or evaluate" >&2
  exit 2
fi
PROCESSES=$1 PROGRAM=$2
shift 2
PYTHON=$(command -v python3)
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] && PYTHON=.venv/bin/python
PORT=${PORT:-$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}

pids=() stopped=
trap 'stopped=1; kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM
for ((id = 0; id < PROCESSES; id++)); do
  "$PYTHON" -m "cervix_jax.$PROGRAM" "$@" --coordinator="127.0.0.1:$PORT" --num_processes="$PROCESSES" --process_id="$id" &
  pids+=($!)
done
status=0 ended=0
while [ $ended -lt "$PROCESSES" ]; do
  code=0
  wait -n || code=$?
  if [ -n "$stopped" ]; then # the signal woke us, no process has ended
    stopped=
    continue
  fi
  ended=$((ended + 1))
  [ $status -ne 0 ] || status=$code
done
exit $status
