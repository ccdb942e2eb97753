#!/usr/bin/env bash
# Runs the tests; creates the environment first if it does not exist.
#
#   bash scripts/test.sh                     the tests; --slow: also the slow ones
#   bash scripts/test.sh -k metrics          takes the arguments of pytest
#   PYTHON=python3.12 bash scripts/test.sh   the interpreter to create the environment with
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

prepare_environment
cd "$root"
exec "$python" -m pytest "$@"
