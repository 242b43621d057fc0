#!/usr/bin/env bash
# Writes requirements.lock anew from pyproject.toml: one lock for Python 3.11 to 3.13 and every platform, with hashes; and launch/beam.lock
# for preparing with Apache Beam, which needs other versions. Needs uv (extra dev). Arguments go to uv, such as --upgrade.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { # FILE OPTIONS
  uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
    --quiet --output-file "$@" > /dev/null
}
lock requirements.lock "$@"
lock launch/beam.lock --extra beam "$@"
