#!/usr/bin/env bash
# Ours against PyTorch and Keras on TensorFlow: tests/benchmarks/compare.sh [NETWORK.WHAT ...]. Makes .venv-peers.
source "$(dirname "$0")/../../launch/environment.sh"

PEERS=${PEERS:-.venv-peers}
if [ ! -e "$PEERS/.installed" ]; then
  echo "== installing PyTorch, TensorFlow and Pillow in $PEERS" >&2
  "$VENV/bin/python" -m venv "$PEERS"
  "$PEERS/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 tensorflow-cpu==2.21.0 keras==3.15.1 pillow==13.0.0 >&2
  touch "$PEERS/.installed"
fi
python -m tests.benchmarks.compare --peers "$PEERS/bin/python" "$@"
