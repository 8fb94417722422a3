#!/usr/bin/env bash
# The whole recipe on two domains that it makes itself, in one command:
#   bash launch/quickstart.sh [--config FILE] [section.option=value …]
# Makes .venv if there is none, then trains with one rank per GPU, or two ranks on the CPU, and prints where the report is. The
# same command again continues a run that was interrupted. ESL_VENV=DIR: another environment; NPROC=N: another number of ranks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/venv.sh
install_into_venv track,gpu,report,fast,terminal
. launch/training.sh

ranks=$(default_ranks)
echo "training with $ranks ranks"
exec "${TORCHRUN[@]}" --nproc_per_node="$ranks" -m esl_dist.train "$@" # a signal to this process is one to torchrun
