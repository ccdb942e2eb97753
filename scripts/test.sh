#!/usr/bin/env bash
# Runs the tests, a process per core, at most four; creates the environment first if it does not exist.
#
#   bash scripts/test.sh                     the tests; --slow: also the slow ones
#   bash scripts/test.sh -k metrics          takes the arguments of pytest
#   PYTHON=python3.12 bash scripts/test.sh   the interpreter to create the environment with
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

prepare_environment
cd "$root"
# A file runs in one process, since its tests may share what is slow to make.
exec "$python" -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile "$@"
