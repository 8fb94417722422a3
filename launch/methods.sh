#!/usr/bin/env bash
# Every objective with every rule of pseudo-labels, over seeds, on the embedded pair:
#   bash launch/methods.sh [SEEDS, default "1 2 3"] [section.option=value …]
# source / AdaptSegNet / ADVENT / MinEnt / MaxSquare / +IW / +IW+Multi, each alone and with SSL, ESL and CBST labels. Runs go to
# runs/methods/METHOD-seed-N; the same command again continues or skips them. The table is runs/methods/table.{md,csv,html}.
# METHODS="advent maxsquare" runs some of them. Weights are the published ones for MaxSquare and configs/streets.yaml's for the
# rest; MaxSquare starts from the source network, as published. Augmentation and the source loss are the same for all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/venv.sh
install_into_venv gpu,report,fast
seeds=${1:-1 2 3}
[ $# -gt 0 ] && shift
gpus=$("$PY" -c 'import torch; print(torch.cuda.device_count())')
labels=selftrain:ssl,selftrain:esl,selftrain:cbst
maxsquare="align.init=source align.weight=0.1 align.weight_aux=0"

options() {
  case $1 in
    source) echo "run.stages=[initial,source,$labels]" ;;
    adaptsegnet | advent | minent) echo "run.stages=[initial,source,align:$1,$labels]" ;;
    maxsquare) echo "run.stages=[initial,source,align:maxsquare,$labels] $maxsquare" ;;
    iw) echo "run.stages=[initial,source,align:iw_maxsquare,$labels] $maxsquare" ;;
    iw-multi) echo "run.stages=[initial,source,align:iw_maxsquare,$labels] $maxsquare align.weight=0.09 align.self_guidance=true" ;;
    *) echo "unknown method $1" >&2 && return 1 ;;
  esac
}

runs=()
for seed in $seeds; do
  for method in ${METHODS:-source adaptsegnet advent minent maxsquare iw iw-multi}; do
    chosen=$(options "$method")
    run=runs/methods/$method-seed-$seed
    # The first two stages are the same for every method: trained once per seed, then copied.
    for stage in initial source; do
      found=$(ls -d runs/methods/*-seed-"$seed/$stage/done.json" 2>/dev/null | head -1 || true)
      if [ -n "$found" ] && [ ! -e "$run/$stage" ]; then
        mkdir -p "$run" && cp -r "$(dirname "$found")" "$run/$stage.copy" && mv "$run/$stage.copy" "$run/$stage"
      fi
    done
    # shellcheck disable=SC2086 # one option per word
    "$PY" -m torch.distributed.run --standalone --nproc_per_node="${NPROC:-$((gpus > 0 ? gpus : 2))}" -m esl_dist.train \
      "run.name=$method-seed-$seed" "run.dir=$run" "run.seed=$seed" tracking.mlflow=false $chosen "$@"
    runs+=("$run")
  done
done
"$PY" -m esl_dist.report --table1 "${runs[@]}" --out runs/methods/table.md
