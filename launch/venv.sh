# shellcheck shell=bash
# Sourced by quickstart.sh and test.sh: makes the virtual environment $ESL_VENV (default .venv) once and installs into it.
#   install_into_venv EXTRAS        afterwards $PY is its python
# A second call with the same pyproject.toml, constraints and extras installs nothing.

fail() { echo "$0: $*" >&2; exit 2; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$candidate"; return; fi
  done
  fail "no Python 3.11 or newer found: install one (Debian and Ubuntu: apt install python3 python3-venv) or name it with PYTHON=/path/to/python3"
}

install_into_venv() {
  local extras=$1 venv=${ESL_VENV:-.venv} wanted base
  wanted=$(cat pyproject.toml constraints.txt <(echo "$extras $PWD") | cksum | cut -d' ' -f1)
  PY=$venv/bin/python
  if [ -e "$venv/.installed-$wanted" ] && "$PY" -c '' 2>/dev/null; then return; fi
  if ! "$PY" -m pip --version >/dev/null 2>&1; then
    base=$(find_python) || exit 2
    "$base" -m venv --clear "$venv" || fail "could not make $venv: on Debian and Ubuntu, apt install python3-venv; elsewhere see the message above"
  fi
  echo "installing esl_dist[$extras] into $venv (some minutes the first time)"
  "$PY" -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[$extras]" ||
    fail "the installation failed, see the message above; run the same command again to go on, or remove $venv to start anew"
  touch "$venv/.installed-$wanted"
}
