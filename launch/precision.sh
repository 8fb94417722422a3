#!/usr/bin/env bash
# Does a shorter number format cost accuracy? The same training in several precisions over seeds, on the embedded pair:
#   bash launch/precision.sh [SEEDS, default "1 2 3"] [section.option=value …]
# 200 steps of ADVENT at half size from weights that all runs share. PRECISIONS="fp32 bf16" chooses others. Runs go to runs/precision;
# the same command again continues or skips them. Mean, deviation and paired differences: runs/precision/table.{md,csv,html}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/venv.sh
install_into_venv gpu,report,fast
. launch/training.sh
seeds=${1:-1 2 3}
[ $# -gt 0 ] && shift
ranks=$(default_ranks)
half=("data.source.size=[128,64]" "data.target.size=[128,64]" "eval.input_size=[128,64]" tracking.mlflow=false)

train "$ranks" run.name=initial run.dir=runs/precision/initial "${half[@]}" "run.stages=[initial]" run.precision=fp32 "eval.split=''"
shared=$(ls -d runs/precision/initial/initial/checkpoints/step_*/segmenter.pt | tail -1)
runs=()
for precision in ${PRECISIONS:-fp32 bf16}; do
  for seed in $seeds; do
    run=runs/precision/$precision-seed-$seed
    train "$ranks" "run.name=$(basename "$run")" "run.dir=$run" "${half[@]}" "run.stages=[align]" "model.checkpoint=$shared" "run.precision=$precision" "run.seed=$seed" "$@"
    runs+=("$run")
  done
done
"$PY" -m esl_dist.report --table1 "${runs[@]}" --out runs/precision/table.md
