#!/usr/bin/env bash
# The study of configs/camvid_teacher.yaml: its seeds one after the other, then every network's labels of the target frames and the
# table of how many of them two methods share. The target's labels are withheld, so nothing is scored.
#   bash launch/camvid_study.sh DATA OUT [SEEDS, default "1 2 3"] [section.option=value …]
# DATA: the folder camvid_day_to_dusk. PYTHON=/path/to/python3: another interpreter. The same command again goes on.
set -euo pipefail
[ $# -gt 1 ] || { echo "usage: bash launch/camvid_study.sh DATA OUT [SEEDS] [section.option=value …]" >&2; exit 2; }
data=$(realpath "$1") out=$(realpath -m "$2") seeds=${3:-1 2 3}
shift 2; [ $# -eq 0 ] || shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
mkdir -p "$out"
folders=()
for seed in $seeds; do
  run=$out/seed-$seed
  "$python" -m esl_dist.train --config configs/camvid_teacher.yaml "data.root=$data" "run.dir=$run" "run.seed=$seed" \
    tracking.mlflow=false "$@" > "$run.log" 2>&1
  for stage in source daformer-source align selftrain-ssl selftrain-esl daformer mic mic-esl; do
    "$python" -m esl_dist.predict --checkpoint "$run/$stage" --images "$data/target" --alpha 0 --out "$out/labels/seed-$seed/$stage" \
      >> "$run.log" 2>&1
  done
  folders+=("$out/labels/seed-$seed")
done
"$python" launch/label_agreement.py "${folders[@]}" --out "$out/agreement.md"
