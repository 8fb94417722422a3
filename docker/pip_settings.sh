# Sourced: what pip inside a build needs to see what pip outside sees.
#   pip_settings FILE    writes pip's settings (files, environment) to FILE and prints, a line each, the folders and
#                        files that must be mounted: FILE's own place last.

pip_settings() {
  local file=$1 path
  { echo "[global]"; python3 -m pip config list | sed -n "s/^\(global\|:env:\)\.\([a-z-]*\)='\(.*\)'\$/\2 = \3/p" | sort -u -t= -k1,1; } >"$file"
  # shellcheck disable=SC2013  # one word a path: folders of packages, files of constraints and certificates
  for path in $(grep -o '/[^ ]*' "$file" | sed 's|^//*|/|; s|/simple$||' | sort -u); do # an index's files lie beside its "simple"
    if [ -e "$path" ]; then echo "$path:$path:ro"; fi
  done
  echo "$file:/etc/pip.conf:ro"
}
