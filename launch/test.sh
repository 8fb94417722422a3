#!/usr/bin/env bash
# Style, types and tests, in one command:
#   bash launch/test.sh [--all] [pytest arguments]
# Makes .venv if there is none. --all adds the tests that take minutes: those marked slow, the long fault drills among them, and, for
# root on Linux, several hosts as network namespaces. ESL_VENV=DIR: another environment; TEST_WORKERS=N: tests at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/venv.sh

select=(-m "not slow" --ignore=tests/multi_node)
arguments=()
for argument in "$@"; do
  case "$argument" in
    --all) select=() ;;
    tests/chaos* | tests/multi_node*) select=() arguments+=("$argument") ;; # asked for by name
    *) arguments+=("$argument") ;;
  esac
done
install_into_venv dev

"$PY" -m ruff check .
"$PY" -m ruff format --check .
"$PY" -m mypy
# One thread a process: ranks, test workers and BLAS threads otherwise fight for the same cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "$PY" -m pytest -n "${TEST_WORKERS:-2}" --dist loadfile ${select[@]+"${select[@]}"} ${arguments[@]+"${arguments[@]}"}
