#!/usr/bin/env bash
# Every figure of the step's GPU table, on the GPUs of this machine, each line within LINE_SECONDS (default 150):
#   bash launch/bench_gpu.sh [FOLDER, default bench]
# The ADVENT step at 1280x720 + 1024x512 with 1 + 1 and 4 + 4 images a GPU, beside a plain loop in fp32 and TF32; its switches one by
# one; self-training; on all GPUs of the machine, with the bandwidth of their all-reduce; the hours of the recipe on 1, 4 and 8 such
# GPUs, computed from the step and from LINK_GBS (GB/s of one GPU's link, default 50). Nothing else should use the GPUs. One table and
# one JSON file each, in FOLDER. A line that takes too long is stopped and said. Without a GPU it runs on tiny sizes, to be tried.
# PYTHON=/path/to/python3: another interpreter than that of .venv, which is made if it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -n "${PYTHON:-}" ]; then PY=$PYTHON; else . launch/venv.sh; install_into_venv gpu,fast; fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
out=${1:-bench}
mkdir -p "$out"
link=${LINK_GBS:-50} limit=${LINE_SECONDS:-150} failed=0
gpus=$("$PY" -c "import torch; print(torch.cuda.device_count())")
turns=30 each=4 tiny=()
if [ "$gpus" -eq 0 ]; then
  echo "bench_gpu: no GPU here: tiny sizes, for the script's own sake; no figure below means anything"
  turns=2 each=1 tiny=("data.source.size=[128,64]" "data.target.size=[128,64]" "model.deeplabv2.layers=[1,1,1,1]" model.deeplabv2.width=8 model.discriminator_width=8 run.threads=1)
fi

bench() { # NAME arguments…
  echo "== $1 (at most $limit s)"
  local code=0
  timeout -k 10 "$limit" "$PY" "${launcher[@]}" -m esl_dist.bench --out "$out/$1.json" "${@:2}" "${tiny[@]}" 2>&1 | tee "$out/$1.txt" || code=$?
  if [ "$code" -eq 124 ]; then echo "-- $1: stopped after $limit s"; elif [ "$code" -ne 0 ]; then echo "-- $1: failed"; fi
  [ "$code" -eq 0 ] || failed=1
}

launcher=()
bench variants-1 --what step --variants --seconds "$each"
bench step-1 --what step --seconds "$turns" --project 1 4 8 --link-gbs "$link"
bench step-4 --what step --seconds "$turns" --project 1 4 8 --link-gbs "$link" optim.batch=4
bench selftrain-1 --what step --stage selftrain --variants --seconds "$each"
if [ "$gpus" -gt 1 ]; then
  launcher=(-m esl_dist.distributed.torchrun --standalone --nproc_per_node="$gpus")
  bench "step-1-$gpus-gpus" --what step --seconds "$turns" optim.batch=1
  bench "step-4-$gpus-gpus" --what step --seconds "$turns" optim.batch=4
  bench allreduce --what allreduce
else
  echo "bench_gpu: one GPU or none, so the lines of several ranks and their all-reduce are skipped"
fi
exit "$failed"
