#!/usr/bin/env bash
# Build the image on Debian or Ubuntu without a Docker engine (root; some minutes; some 12 GB of disk):
#   bash docker/build_without_docker.sh [WORK_DIR]        after apt-get install buildah debootstrap
# The base is made by debootstrap, so torch comes from constraints.txt. pip's settings and this machine's certificates are
# mounted while building and stay out of the image. Afterwards: docker/run_without_docker.sh WORK_DIR/rootfs doctor
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. docker/pip_settings.sh
work=$(realpath -m "${1:-build/image}")
[ "$(id -u)" = 0 ] || { echo "needs root: chroot isolation mounts file systems" >&2; exit 2; }
for tool in buildah debootstrap; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install buildah debootstrap" >&2; exit 2; }
done
mkdir -p "$work"
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
storage=(--root "$work/storage" --runroot "$work/runroot")
# shellcheck disable=SC1091
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")

if ! buildah "${storage[@]}" inspect --type image esl_dist-base >/dev/null 2>&1; then
  began=$SECONDS
  rm -rf "$work/base"
  # shellcheck disable=SC2016  # apt expands it
  mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $suite" | head -n1)
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates "$suite" "$work/base" ${mirror:+"$mirror"} >"$work/debootstrap.log"
  rm -rf "$work"/base/var/cache/apt/archives/*.deb
  container=$(buildah "${storage[@]}" from scratch)
  buildah "${storage[@]}" add -q "$container" "$work/base" / >/dev/null
  buildah "${storage[@]}" commit -q --rm "$container" esl_dist-base >/dev/null
  rm -rf "$work/base"
  echo "base of $suite: $((SECONDS - began)) s"
fi

# pip inside sees what pip outside sees: its settings as one file, the local folders and files they name, the certificates.
mounts=(-v /etc/ssl/certs:/etc/ssl/certs:ro)
if [ -d /usr/local/share/ca-certificates ]; then mounts+=(-v /usr/local/share/ca-certificates:/usr/local/share/ca-certificates:ro); fi
while IFS= read -r mount; do mounts+=(-v "$mount"); done < <(pip_settings "$work/pip.conf")

began=$SECONDS
buildah "${storage[@]}" bud --pull-never --format docker --layers "${mounts[@]}" --build-arg BASE_IMAGE=localhost/esl_dist-base --build-arg WITH_APEX="${WITH_APEX:-0}" -t esl_dist . </dev/null
echo "image: $((SECONDS - began)) s"

# Unpacked once, so that it can be run as often as one likes; the sizes are those of the final stage's layers, unpacked.
rm -rf "$work/rootfs"
container=$(buildah "${storage[@]}" from --pull-never esl_dist)
mounted=$(buildah "${storage[@]}" mount "$container")
cp -a "$mounted" "$work/rootfs"
buildah "${storage[@]}" rm "$container" >/dev/null
for part in opt/venv opt/apex opt/esl_dist; do du -sh "$work/rootfs/$part" | sed "s|$work/rootfs|layer|"; done
du -sh "$work/rootfs" | sed "s|$work/rootfs|everything|"
echo "try it: bash docker/run_without_docker.sh $work/rootfs doctor"
