"""Every option as a page: ``python -m esl_dist.config.reference > docs/reference/options.md``."""

from __future__ import annotations

from esl_dist.config.describe import Option, sections
from esl_dist.config.schema import Config
from esl_dist.config.study import StudyConfig

HEAD = """\
# Options

Every option of `section.option=value` and of configuration files, from the schema (`esl_dist/config/`). Written by
`python -m esl_dist.config.reference > docs/reference/options.md`; a test compares. Text keeps the characters typed; a
number outside its bounds is refused by its name.
"""

STUDY = """\
## study

A study's own file (`esl_dist tune --config FILE`), and `study.option=value` on the command line.
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for section in sections(Config):
        parts.append(f"## {section.name or 'protocol'}\n" + (f"\n{section.text}\n" if section.text else ""))
        parts += [_entry(option) for option in section.options]
    parts.append(STUDY)
    parts += [_entry(option) for option in options_of_a_study()]
    return "\n".join(parts)


def options_of_a_study() -> list[Option]:
    """A study without anything to sweep is none, so its schema has no example to read defaults from."""
    example = StudyConfig(space={"optim.lr": {"grid": [1.0]}})
    return [option for section in sections(StudyConfig, example) for option in section.options]


def _entry(option: Option) -> str:
    default = option.shown_default
    text = "\n".join(f"  {line}".rstrip() for line in option.text.splitlines())
    return f"- **`{option.key}`** ({option.kind}; default `{default}`)\n\n{text}\n"


if __name__ == "__main__":
    print(page(), end="")
