#!/usr/bin/env bash
# Runs the tests; makes the environment first if it is not there.
#
#   bash scripts/test.sh                     the tests; --slow: with the slow ones
#   bash scripts/test.sh -k metrics          any arguments of pytest
#   PYTHON=python3.12 bash scripts/test.sh   the interpreter to make the environment with
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

prepare_environment
cd "$root"
exec "$python" -m pytest "$@"
