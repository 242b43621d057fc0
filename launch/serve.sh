#!/usr/bin/env bash
# The page for the clinic, on this machine: ./launch/serve.sh runs/quickstart [RUN ...] [FLAGS]; FLAGS such as --port=8080.
# Makes .venv if it is missing. Runs without a calibration are calibrated first, which needs the data of their training.
workdirs=()
while [ $# -gt 0 ] && [[ $1 != --* ]]; do
  if ! folder=$(cd "$1" && pwd); then exit 2; fi
  workdirs+=("--workdir=$folder")
  shift
done
if [ ${#workdirs[@]} -eq 0 ]; then
  echo "usage: $0 RUN [RUN ...] [FLAGS]; RUN is the work directory of a trained run" >&2
  exit 2
fi
source "$(dirname "$0")/environment.sh"

exec python -m cervix_jax.serve "${workdirs[@]}" --calibrate "$@"
