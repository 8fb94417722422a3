# shellcheck shell=bash
# Sourced by the scripts that train, from the repository's root, after install_into_venv:
#   default_ranks                          prints NPROC, else one rank per GPU, else 2
#   train RANKS [section.option=value …]   torchrun of esl_dist.train
# shellcheck disable=SC2154 # PY is venv.sh's

TORCHRUN=("$PY" -m esl_dist.distributed.torchrun --standalone)

default_ranks() {
  local gpus
  gpus=$("$PY" -c 'import torch; print(torch.cuda.device_count())')
  echo "${NPROC:-$((gpus > 0 ? gpus : 2))}"
}

train() {
  "${TORCHRUN[@]}" --nproc_per_node="$1" -m esl_dist.train "${@:2}"
}
