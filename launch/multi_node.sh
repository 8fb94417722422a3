#!/usr/bin/env bash
# Several hosts by hand: the same command on each, with its number, how many there are, and an address of host 0 that all reach.
#   bash launch/multi_node.sh 0 2 10.0.0.1:29400 [train|extract|evaluate] --config FILE     on host 0
#   bash launch/multi_node.sh 1 2 10.0.0.1:29400 [train|extract|evaluate] --config FILE     on host 1
# All see the same run folder. A host that falls out is waited for (JOIN_TIMEOUT, 900 s): start its command again and all go on from
# the newest checkpoint. LOCAL_ADDR=IP: this host's own address where its name does not resolve to it; GLOO_SOCKET_IFNAME,
# NCCL_SOCKET_IFNAME: the network to use; MAX_RESTARTS (3) of the ranks; RUN_ID where several runs share a head and port.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ $# -lt 3 ]; then sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; fi
host=$1 hosts=$2 head=$3
shift 3
module=train
case "${1:-}" in "" | *[!a-z]*) ;; *) if grep -q "Command(\"$1\",.*ranks=\"all\"" esl_dist/entries/__init__.py; then module=$1; shift; fi ;; esac
is_host=0
if [ "$host" = 0 ]; then is_host=1; fi
exec "${PYTHON:-${ESL_VENV:-.venv}/bin/python}" launch/agent.py --nnodes="$hosts" --max-restarts="${MAX_RESTARTS:-3}" \
  --rdzv-backend=c10d --rdzv-endpoint="$head" --rdzv-id="${RUN_ID:-esl_dist}" \
  --rdzv-conf="is_host=$is_host,join_timeout=${JOIN_TIMEOUT:-900}" -m "esl_dist.$module" "$@"
