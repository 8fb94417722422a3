#!/usr/bin/env bash
# Every figure of the README's GPU table, on the GPUs of this machine:
#   bash launch/bench_gpu.sh [FOLDER, default bench]
# The ADVENT step at 1280x720 + 1024x512 with 1 + 1 and 4 + 4 images a GPU, beside a plain loop in fp32 and TF32; with and without
# torch.compile; self-training; on all GPUs of the machine, with the bandwidth of their all-reduce; the hours of the recipe on 1, 4 and 8
# such GPUs, computed from the step and from LINK_GBS (GB/s of one GPU's link, default 50). Nothing else should use the GPUs. One table and
# one JSON file each, in FOLDER.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/venv.sh
install_into_venv gpu,fast
"$PY" -c "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 'bench_gpu: torch sees no GPU here')"
out=${1:-bench}
mkdir -p "$out"
link=${LINK_GBS:-50}
gpus=$("$PY" -c "import torch; print(torch.cuda.device_count())")

bench() { # NAME arguments…
  echo "== $1"
  "$PY" -m esl_dist.bench --out "$out/$1.json" "${@:2}" 2>&1 | tee "$out/$1.txt"
}

bench step-1 --what step --project 1 4 8 --link-gbs "$link"
bench step-4 --what step --project 1 4 8 --link-gbs "$link" optim.batch=4
bench step-1-compiled --what step run.compile=true
bench step-4-compiled --what step run.compile=true optim.batch=4
bench selftrain-1 --what step --stage selftrain
if [ "$gpus" -gt 1 ]; then
  for batch in 1 4; do
    "$PY" -m esl_dist.distributed.torchrun --standalone --nproc_per_node="$gpus" -m esl_dist.bench --what step "optim.batch=$batch" --out "$out/step-$batch-$gpus-gpus.json" | tee "$out/step-$batch-$gpus-gpus.txt"
  done
  "$PY" -m esl_dist.distributed.torchrun --standalone --nproc_per_node="$gpus" -m esl_dist.bench --what allreduce --out "$out/allreduce.json" | tee "$out/allreduce.txt"
fi
