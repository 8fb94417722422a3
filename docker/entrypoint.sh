#!/bin/sh
# docker run [--gpus all] -v runs:/runs -v data:/data esl_dist [train|extract|evaluate|doctor|… as esl_dist --help lists them] [arguments]
# Without a word it trains. train, extract and evaluate run on every GPU of this container (NPROC=N: as many ranks), and across
# containers as Kubeflow (PET_*), Slurm (SLURM_*, MASTER_ADDR) or an existing RANK say: see launch/agent.py, which becomes PID 1 and
# turns SIGTERM into a saved state and exit code 0. Any other word is run as it is: docker run … esl_dist python -c ….
set -eu
here=$(dirname "$0")/..

# With a read-only root file system, what libraries cache and lock goes to the one place that can be written.
if [ ! -w "${HOME:-/}" ]; then
  HOME=/runs/.home
  export HOME
  mkdir -p "$HOME" || { echo "entrypoint: error: neither the home folder nor /runs can be written: mount /runs writable for user $(id -u)" >&2; exit 2; }
fi
if [ ! -w "${TMPDIR:-/tmp}" ]; then
  TMPDIR=$HOME/tmp
  export TMPDIR
  mkdir -p "$TMPDIR"
fi

case "${1:-train}" in
  -* | *=*) set -- train "$@" ;;
esac
word=${1:-train}
if [ $# -gt 0 ]; then shift; fi
# The commands, and which of them run on every GPU, are listed in one place.
commands=$here/esl_dist/entries/__init__.py
case "$word" in *[!a-z]*) exec "$word" "$@" ;; esac
if grep -q "Command(\"$word\",.*ranks=\"all\"" "$commands"; then exec python "$here/launch/agent.py" -m "esl_dist.$word" "$@"; fi
if grep -q "Command(\"$word\"," "$commands"; then exec python -m "esl_dist.$word" "$@"; fi
exec "$word" "$@"
