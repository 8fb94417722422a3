"""Configurations: hostile values for every option of the schema, broken words, and files with broken text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from esl_dist.config.bounds import bound_of, item_types, plain
from esl_dist.config.describe import Option, sections
from esl_dist.config.load import configs_dir, load_config
from esl_dist.config.schema import Config
from tests.hostile.trial import Case, call, complaint, untouched

NUMBERS = [
    "0",
    "-1",
    "1",
    "nan",
    ".nan",
    "inf",
    "-.inf",
    "1e999",
    "1e-999",
    "-0.0",
    "9" * 40,
    "0x10",
    "1_0",
    "1e3",
    "٣",
    "1,5",
    "½",
    "+1",
    "1.0",
]
TEXTS = [
    *(
        "",
        "0042",
        "on",
        "null",
        "~",
        "12:30",
        "../../x",
        "/etc/passwd",
        ".",
        "..",
        "a/b",
        "a\\b",
        "x" * 300,
        "x" * 5000,
    ),
    *(
        "é😀",
        "'",
        '"',
        "`id`",
        "$(id)",
        "${x}",
        "%s%n",
        "{}",
        "[]",
        "a: b",
        "#",
        "!!python/object:os.system",
        "&a",
        "*a",
    ),
    *("\x00", "\x1b[31m", "a\nb", "\udcff", " ", "-", "--help", "=", "a=b", "C:\\x y", "CON"),
]
SHAPES = [
    "[",
    "]",
    "{",
    "}",
    "[]",
    "{}",
    "[[]]",
    "{a: b}",
    "[1, 2, 3]",
    "[a, b]",
    "- a",
    "[1, [2]]",
    "[~]",
    "[,]",
    "!!int 3",
    "[1, 2",
    "{a}",
    "[.nan, .inf]",
]


def options() -> list[Option]:
    return [option for section in sections(Config) for option in section.options]


def hostile_value(option: Option, draw: random.Random) -> str:
    """A value for an option: near its bounds, of another type, or of another shape."""
    hint = plain(option.hint)
    if draw.random() < 0.25:
        return draw.choice(SHAPES)
    if get_origin(hint) is Literal:
        word = str(draw.choice(get_args(hint)))
        return draw.choice(
            [word, word.upper(), word[:-1], f" {word}", f"{word},{word}", f"[{word}]", draw.choice(TEXTS)]
        )
    if get_origin(hint) in (tuple, list):
        inner = item_types(option.hint, draw.randint(0, 5))
        if draw.random() < 0.4:
            inner = inner[: draw.randint(0, len(inner))]
        return f"[{', '.join(_one(item, draw) for item in inner)}]"
    return _one(option.hint, draw)


def _one(hint: Any, draw: random.Random) -> str:
    bound = bound_of(hint)
    if bound is not None and draw.random() < 0.5:
        return str(
            draw.choice(
                [bound.low, bound.low - 1, bound.high, bound.high * 2 + 1, (bound.low + min(bound.high, 50)) / 2]
            )
        )
    return draw.choice(NUMBERS if draw.random() < (0.7 if bound is not None else 0.2) else TEXTS)


def word(draw: random.Random) -> str:
    """A word of a command line."""
    option = draw.choice(options())
    key = option.key
    match draw.randrange(12):
        case 0:
            key = key[: draw.randint(0, len(key))]
        case 1:
            key = key.replace(".", draw.choice(["..", "", ". ", ".x.", "["]), 1)
        case 2:
            place = draw.randrange(len(key))
            key = key[:place] + draw.choice("xyz_.=-é \x00") + key[place + 1 :]
    return f"{key}={hostile_value(option, draw)}" if draw.random() < 0.97 else draw.choice(TEXTS) + key


def text(draw: random.Random) -> bytes:
    """A shipped file with something done to it, or options in the shape of a file."""
    files = sorted(path for path in configs_dir().rglob("*.yaml") if "sweeps" not in path.parts)
    content = bytearray(draw.choice(files).read_bytes())
    for _ in range(draw.randint(1, 4)):
        if not content:
            break
        place = draw.randrange(len(content))
        match draw.randrange(7):
            case 0:
                content[place] = draw.randrange(256)
            case 1:
                del content[place : place + draw.randint(1, 30)]
            case 2:
                content[place:place] = draw.choice(
                    [
                        b"\t",
                        b"\n",
                        b": ",
                        b"- ",
                        b"[",
                        b"{",
                        b"&a ",
                        b"*a ",
                        b"!!x ",
                        b"\xff",
                        b"\x00",
                        b"---\n",
                        b"<<: ",
                    ]
                )
            case 3:
                lines = bytes(content).split(b"\n")
                lines.insert(draw.randrange(len(lines)), draw.choice(lines))
                content = bytearray(b"\n".join(lines))
            case 4:
                chosen = draw.choice(options())
                section, _, name = chosen.key.rpartition(".")
                content += f"\n{section}:\n  {name}: {hostile_value(chosen, draw)}\n".encode("utf-8", "surrogateescape")
            case 5:
                content = content[:place]
            case 6:
                content[place:place] = content[: draw.randint(0, 200)]
    return bytes(content)


def _judged(words: list[str], folder: Path) -> tuple[bool, str]:
    """Refused, or printed as a configuration that loads again and is the same."""
    with untouched(folder) as new:
        ended = call(["train", "--print-config", *words])
    wrong = complaint(ended) or (f"new on disk: {new}" if new else "")
    if wrong or ended.code:
        return bool(ended.code), wrong
    if ended.out.startswith("usage:") or ended.out.startswith("esl_dist "):
        return False, ""
    printed = folder.parent / "printed.yaml"
    printed.write_text(ended.out)
    again = load_config(str(printed))
    mine = load_config(
        None if "--config" not in words else words[words.index("--config") + 1],
        [w for w in words if not w.startswith("-") and "=" in w and not w.endswith(".yaml")],
    )
    return False, "" if again == mine else "what was printed is another configuration"


def words_cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    draw = random.Random(seed)
    for _ in range(count):
        typed = [word(draw) for _ in range(draw.choice([1, 1, 1, 2, 3]))]
        typed = [one for one in typed if one not in ("--help", "-h", "--version")]
        yield Case("words", repr(typed), lambda typed=typed: _judged(["--config", "smoke.yaml", *typed], folder))


def text_cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    draw = random.Random(seed)
    path = folder / "hostile.yaml"
    path.touch()
    for _ in range(count):
        content = text(draw)
        yield Case(
            "files",
            repr(content[-300:]),
            lambda content=content: (path.write_bytes(content), _judged(["--config", str(path)], folder))[1],
        )


def kept_text_cases(folder: Path, every: int) -> Iterator[Case]:
    """Every option declared as text keeps every text, or is refused by its name; of all pairs one in so many."""
    for number, option in enumerate(option for option in options() if plain(option.hint) is str):
        for place, typed in enumerate(TEXTS):
            if (number + place) % every == 0:
                yield Case(
                    "text",
                    f"{option.key}={typed!r}",
                    lambda option=option, typed=typed: _kept(option.key, typed, folder),
                )


def _kept(key: str, typed: str, folder: Path) -> tuple[bool, str]:
    with untouched(folder) as new:
        ended = call(["train", "--config", "smoke.yaml", "--print-config", f"{key}={typed}"])
    wrong = complaint(ended) or (f"new on disk: {new}" if new else "")
    if wrong or ended.code:
        section = key.rpartition(".")[0].partition(".")[0]
        return True, wrong or (
            "" if section in ended.err or key in ended.err else f"the option is not named: {ended.err}"
        )
    value: Any = yaml.load(ended.out, yaml.BaseLoader)
    for name in key.split("."):
        value = value[name]
    return False, "" if value == typed else f"became {value!r}"
