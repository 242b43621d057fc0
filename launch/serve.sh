#!/usr/bin/env bash
# The page for the clinic, on this machine: ./launch/serve.sh runs/quickstart [RUN ...] [FLAGS]; FLAGS such as --port=8080.
# Makes .venv if it is missing. A run without a calibration is calibrated first, which needs the data that it was trained on.
if [ $# -lt 1 ]; then
  echo "usage: $0 RUN [RUN ...] [FLAGS]; RUN is the work directory of a trained run" >&2
  exit 2
fi
source "$(dirname "$0")/environment.sh"

workdirs=()
while [ $# -gt 0 ] && [[ $1 != --* ]]; do
  workdirs+=("--workdir=$1")
  shift
done
if ! compgen -G "${workdirs[0]#--workdir=}/calibration-*.json" > /dev/null; then
  echo "== calibrating, so that the page can say that it does not know" >&2
  python -m cervix_jax.calibrate "${workdirs[@]}"
fi
exec python -m cervix_jax.serve "${workdirs[@]}" "$@"
