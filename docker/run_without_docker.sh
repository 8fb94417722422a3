#!/usr/bin/env bash
# Run the unpacked image as a container engine would: its user, PID 1, a read-only root file system, only /runs writable (root):
#   bash docker/run_without_docker.sh ROOTFS [words for the entry point]
# RUNS=DIR: the folder that becomes /runs (default ROOTFS/../runs). NPROC and ESL_* are handed on. SIGTERM goes to PID 1.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
root=$(realpath "$1")
runs=${RUNS:-$root/../runs}
shift
mkdir -p "$runs"
chown 10001:10001 "$runs"

handed=()
while IFS= read -r name; do handed+=("$name=${!name}"); done < <(compgen -e | grep -E '^(NPROC|ESL_.*|PET_.*|OMP_NUM_THREADS)$' || true)
# What an engine sets up before the entry point, in namespaces that end with it.
# shellcheck disable=SC2016  # the inner shell expands it
setup='
  mount --make-rprivate /
  mount --bind "$0" "$0"
  mount --bind "$1" "$0/runs"
  mount -t proc proc "$0/proc"
  mount --rbind /dev "$0/dev"
  mount -t tmpfs -o size=1g tmpfs "$0/dev/shm"
  touch "$0/etc/hosts" && mount --bind /etc/hosts "$0/etc/hosts"
  mount -o remount,bind,ro "$0"
  root=$0
  shift
  exec chroot --userspec=10001:10001 "$root" env -i PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/home/esl PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RAY_USAGE_STATS_ENABLED=0 "$@"
'
exec unshare --mount --pid --fork --kill-child=KILL bash -euc "$setup" "$root" "$(realpath "$runs")" ${handed[@]+"${handed[@]}"} /opt/esl_dist/docker/entrypoint.sh "$@"
