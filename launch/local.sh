#!/usr/bin/env bash
# One machine, one rank per GPU (or two ranks without any):
#   bash launch/local.sh [train|extract|evaluate] --config configs/gta5_cityscapes/advent.yaml data.root=/data
# NPROC=N: another number of ranks. Ctrl-C or SIGTERM saves and leaves with exit code 0; the same command goes on from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
module=train
case "${1:-}" in "" | *[!a-z]*) ;; *) if grep -q "Command(\"$1\",.*ranks=\"all\"" esl_dist/entries/__init__.py; then module=$1; shift; fi ;; esac
exec "${PYTHON:-${ESL_VENV:-.venv}/bin/python}" launch/agent.py -m "esl_dist.$module" "$@"
