#!/usr/bin/env bash
# Is all well on a GPU, and how fast? Within 8 minutes, on a bare machine with one GPU and no network:
#   bash launch/check_gpu.sh [PART…] [--out DIR] [--deadline SECONDS]
# It needs torch 2.11 or newer, numpy, h5py, Pillow, PyYAML and jinja2 (a wheel on PYTHONPATH will do), and says which is missing. Parts: machine, doctor, kernels, tests (with pytest, if there is one), smoke, "step 1+1", "step 4+4", extract, evaluate,
# "step selftrain", "step source", "step teacher", "step blocks", networks, streets. Each gets its share of the time that is left. It prints as it goes; DIR (default gpu_check) gets one JSON of all figures. Without a
# GPU it runs on tiny sizes and says what it skips. PYTHON=/path/to/python3: another interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m esl_dist.benchmarks.gpu_check "$@"
