#!/usr/bin/env bash
# The README's table: a configuration with several seeds, then mean and spread over them.
#   bash launch/seeds.sh [SEEDS, default "1 2 3"] [--config FILE] [section.option=value …]
# Uses the environment that launch/quickstart.sh made. Runs go to runs/seed-N; the same command again continues or skips them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/venv.sh
install_into_venv track,gpu,report,fast,terminal
. launch/training.sh
seeds=${1:-1 2 3}
[ $# -gt 0 ] && shift
ranks=$(default_ranks)
runs=()
for seed in $seeds; do
  train "$ranks" "run.name=seed-$seed" "run.seed=$seed" "$@"
  runs+=("runs/seed-$seed")
done
"$PY" -m esl_dist.report --table1 "${runs[@]}" --out runs/seeds.md
