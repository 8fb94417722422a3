"""``esl_dist --completion bash|zsh``: a script to source, with the commands, their arguments and every option."""

from __future__ import annotations

from collections.abc import Sequence

from esl_dist.config.describe import sections
from esl_dist.config.schema import Config
from esl_dist.entries import COMMANDS

SCRIPT = """\
# esl_dist: source <(esl_dist --completion {shell})
{zsh}_esl_dist() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  # "section.option=value" comes as three words where = divides them.
  if [ "$word" = "=" ]; then COMPREPLY=($(compgen -W "$(_esl_dist_values "$before")" -- "")); return; fi
  if [ "$before" = "=" ]; then
    COMPREPLY=($(compgen -W "$(_esl_dist_values "${{COMP_WORDS[COMP_CWORD-2]}}")" -f -- "$word")); return
  fi
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W "{commands} --help --version --completion" -- "$word")); return
  fi
  # In zsh it comes as one.
  case "$word" in *=*)
    COMPREPLY=($(compgen -P "${{word%%=*}}=" -W "$(_esl_dist_values "${{word%%=*}}")" -- "${{word#*=}}")); return ;;
  esac
  case "$before" in --config | --checkpoint | --out) COMPREPLY=($(compgen -f -- "$word")); return ;; esac
  case "$word" in
    -*) COMPREPLY=($(compgen -W "--config --nproc --checkpoint --out --print-config --help --version" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "{options}" -- "$word") $(compgen -f -- "$word")) ;;
  esac
  case "${{COMPREPLY[0]-}}" in *=) compopt -o nospace 2>/dev/null ;; esac
}}
_esl_dist_values() {{
  case "$1" in
{values}
  esac
}}
complete -F _esl_dist esl_dist
"""


def main(argv: Sequence[str]) -> int:
    """Print the script of a shell."""
    if list(argv) not in (["bash"], ["zsh"]):
        raise ValueError("--completion: takes bash or zsh, as in: source <(esl_dist --completion bash)")
    print(script(argv[0]), end="")
    return 0


def script(shell: str) -> str:
    """What the shell is to read."""
    options = [option for section in sections(Config) for option in section.options]
    values = "\n".join(f'    {o.key}) echo "{" ".join(filter(None, o.choices))}" ;;' for o in options if o.choices)
    zsh = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return SCRIPT.format(
        shell=shell, zsh=zsh, commands=" ".join(COMMANDS), options=" ".join(f"{o.key}=" for o in options), values=values
    )
