#!/usr/bin/env bash
# What changes from one rank to N when the number of samples stays: ranks x scaling of the learning rate x seeds, on the embedded pair:
#   bash launch/ranks.sh [SEEDS, default "1 2 3"] [section.option=value …]
# One image per rank, 600 samples of ADVENT at half size from weights that all runs share, so 600, 300 and 150 steps. RANKS="1 2 4"
# and RULES="none linear" (also: sqrt) choose others. Runs go to runs/ranks; the same command again continues or skips them. The table with
# mean and deviation over the seeds, and the paired differences from one rank, is runs/ranks/table.{md,csv,html}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/venv.sh
install_into_venv gpu,report,fast
. launch/training.sh
seeds=${1:-1 2 3}
[ $# -gt 0 ] && shift
half=("data.source.size=[128,64]" "data.target.size=[128,64]" "eval.input_size=[128,64]" tracking.mlflow=false)
each=(optim.batch=1 optim.count=samples optim.lr=0.005 optim.discriminator_lr=0.0005)

train 1 run.name=initial run.dir=runs/ranks/initial "${half[@]}" "${each[@]}" "run.stages=[initial]" initial.steps=1200 "eval.split=''"
shared=$(ls -d runs/ranks/initial/initial/checkpoints/step_*/segmenter.pt | tail -1)
runs=()
for ranks in ${RANKS:-1 2 4}; do
  for rule in ${RULES:-none linear}; do
    if [ "$ranks" = 1 ] && [ "$rule" != none ]; then continue; fi # one image a step is what the rates are for
    for seed in $seeds; do
      run=runs/ranks/$ranks-$rule-seed-$seed
      train "$ranks" "run.name=$(basename "$run")" "run.dir=$run" "${half[@]}" "${each[@]}" "run.stages=[align]" align.steps=600 "model.checkpoint=$shared" "optim.scale_lr=$rule" "run.seed=$seed" "$@"
      runs+=("$run")
    done
  done
done
"$PY" -m esl_dist.report --table1 "${runs[@]}" --out runs/ranks/table.md
