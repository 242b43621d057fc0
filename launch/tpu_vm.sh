#!/usr/bin/env bash
# `train` or `evaluate` on a host of a Cloud TPU slice; all its hosts run it, each from a clone of this repository:
# gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command='cd cervix_jax && ./launch/tpu_vm.sh train --config=... --workdir=...'
# Data and work directory lie where all hosts see them (Filestore, a mounted bucket). It installs .venv, and libtpu, if they are missing.
# It needs Python 3.11 or later there (PYTHON names one). SIGTERM to one host's process stops all, saved; rerun the command to resume.
set -euo pipefail
if [ $# -lt 1 ]; then
  echo "usage: $0 PROGRAM [FLAGS]; PROGRAM is train or evaluate" >&2
  exit 2
fi
PROGRAM=$1
shift
source "$(dirname "$0")/environment.sh"
if ! python -c 'import libtpu' 2> /dev/null; then
  python -m pip install --quiet --disable-pip-version-check "jax[tpu]==$(python -c 'import jax; print(jax.__version__)')" >&2
fi

metadata() { # an attribute of this host
  curl --silent --fail --header 'Metadata-Flavor: Google' \
    "http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

endpoints=$(metadata worker-network-endpoints) # of all hosts, in order, as NAME:ID:ADDRESS or ADDRESS
IFS=, read -ra hosts <<< "$endpoints"
JAX_PROCESS_ID=$(metadata agent-worker-number)
export JAX_PROCESS_ID JAX_NUM_PROCESSES=${#hosts[@]} JAX_COORDINATOR_ADDRESS="${hosts[0]##*:}:8482"
exec python -m "cervix_jax.$PROGRAM" "$@"
