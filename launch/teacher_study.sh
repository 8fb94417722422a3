#!/usr/bin/env bash
# The study of configs/streets_teacher.yaml on one machine without a network: ImageNet and random weights, every seed, all side by
# side on its one GPU or its cores, then a table of each kind of weights: mean and spread over seeds, paired differences.
#   bash launch/teacher_study.sh OUT [SEEDS, default "1 2 3"] [section.option=value …]
# PYTHON=/path/to/python3: another interpreter. KINDS="imagenet kaiming". LIMIT=SECONDS ends what still trains; the table then holds
# what was finished. The same command again goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
[ $# -gt 0 ] || { echo "usage: bash launch/teacher_study.sh OUT [SEEDS] [section.option=value …]" >&2; exit 2; }
out=$1 seeds=${2:-1 2 3} kinds=${KINDS:-imagenet kaiming}
shift; [ $# -eq 0 ] || shift
mkdir -p "$out"
"$python" -m esl_dist.streets --out "$out/data" > "$out/data.log"
for kind in $kinds; do
  for seed in $seeds; do
    run=$out/$kind-$seed
    timeout --signal=TERM "${LIMIT:-86400}" "$python" -m esl_dist.train --config configs/streets_teacher.yaml "run.dir=$run" \
      "run.seed=$seed" "data.root=$out/data" "model.efficientnet.init=$kind" tracking.mlflow=false "$@" > "$run.log" 2>&1 &
  done
done
wait
for kind in $kinds; do
  echo "== $kind"
  "$python" -m esl_dist.report --table1 "$out/$kind"-?*/ --out "$out/$kind.md" || tail -n 3 "$out/$kind"-*.log
done
