"""What is typed and what it means: by the option's type, in files and on the command line; what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esl_dist.config import renamed
from esl_dist.config.load import ConfigError, dump, load_config
from esl_dist.config.study import load_study


def config_file(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def option(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


TYPED = ["0042", "12:30", "on", "off", "null", "1e3", "0x1F", "1_000", "true", "~", "16.0", "a: b", "#1", "2024-01-01"]


@pytest.mark.parametrize("typed", [*TYPED, " x", "${HOME}", "it's", '"', "a,b", "é"])
def test_text_keeps_the_characters_typed_on_the_command_line(typed: str, tmp_path: Path) -> None:
    for key in ("run.name", "data.root", "model.checkpoint"):
        config = load_config("smoke.yaml", [f"{key}={typed}"])
        assert option(config, key) == typed
        assert load_config(config_file(tmp_path, dump(config))) == config


@pytest.mark.parametrize("typed", [word for word in TYPED if ": " not in word and not word.startswith("#")])
def test_text_keeps_the_characters_typed_in_files(typed: str, tmp_path: Path) -> None:
    path = config_file(tmp_path, f"base: smoke.yaml\nrun: {{name: {typed}}}\ndata:\n  root: {typed}\n")
    config = load_config(path)
    assert (config.run.name, config.data.root) == (typed, typed)


def test_words_of_lists_are_text_too() -> None:
    assert load_config("smoke.yaml", ["run.stages=[source, align:minent]"]).run.stages == ("source", "align:minent")
    assert load_study("sweeps/smoke.yaml", ["study.name=007"]).name == "007"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("optim.lr=1e-3", 1e-3),
        ("optim.lr=.5", 0.5),
        ("optim.batch=010", 10),
        ("optim.batch=1_000", 1000),
        ("align.steps=+3", 3),
        ("run.deterministic=off", False),
        ("run.compile=Yes", True),
        ("data.target.size=[64, 32]", (64, 32)),
        ('run.name="quoted"', "quoted"),
        ("run.name=''", None),
        ("eval.split=''", ""),
    ],
)
def test_numbers_and_switches(word: str, value: Any) -> None:
    if value is None:
        with pytest.raises(ConfigError, match=r"run\.name"):
            load_config("smoke.yaml", [word])
    else:
        assert option(load_config("smoke.yaml", [word]), word.partition("=")[0]) == value


def test_of_two_words_the_last_counts_and_of_two_spellings_neither() -> None:
    assert load_config("smoke.yaml", ["optim.lr=1", "optim.lr=2"]).optim.lr == 2
    with pytest.raises(ConfigError, match=r"optim\.lr: is given twice"):
        load_config("smoke.yaml", ["optim={lr: 1}", "optim.lr=2"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run:\n  stages: {a: b}\n", ":2: run.stages: takes a list, written [one, two], not a mapping"),
        ("run:\n  name: [a]\n", ":2: run.name: takes text, not a list"),
        ("optim:\n  batch: 2\n  lr: abc\n", ":3: optim.lr: 'abc' is not a number"),
        ("optim:\n  batch: 1.5\n", ":2: optim.batch: '1.5' is not a whole number"),
        ("data:\n  target:\n    size: [64]\n", ":3: data.target.size: takes 2 values"),
        ("data: 3\n", ":1: data: is a section"),
        ("optim:\n  lrr: 1\n", ":2: optim.lrr: unknown option; did you mean optim.lr?"),
        ("optim:\n  lr: 1\n  lr: 2\n", ":3: optim.lr: is given twice (also in {path}:2)"),
        ("optim: {lr: 1\n", ":2: not readable as YAML: expected ',' or '}', but got '<stream end>'"),
        ("\toptim: 1\n", ":1: not readable as YAML: found character '\\t' that cannot start any token"),
        ("- a\n", ": must hold 'section:' mappings"),
        ("a: b\n---\nc: d\n", ":2: not readable as YAML: but found another document"),
        ("optim:\n  batch: 0\n", ":2: optim.batch: must be 1 or more, not 0"),
        ("run:\n  stages: [source, source]\n", ":2: run.stages: names a stage twice"),
        ("align:\n  also: [{weight: x}]\n", ":2: align.also[0].weight: 'x' is not a number"),
        ("base: {a: b}\n", ":1: base: takes a file, or a list of files"),
        ("base: nowhere.yaml\n", ": base: no file 'nowhere.yaml'"),
        ("run: {name: *x}\n", ":1: not readable as YAML: found undefined alias 'x'"),
        ("run: &x {dir: *x}\n", "not readable as YAML: larger or deeper than a configuration can be"),
        ("run: {name: !!python/object:os.system ls}\n", None),
        ("run: {name: \"a\\0b\"}\n", ":1: run.name: holds a control character"),
        ("[" * 5000, "nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named_with_its_line(text: str, said: str | None, tmp_path: Path) -> None:
    path = config_file(tmp_path, text)
    if said is None:  # a tag is no more than how the text was marked
        assert load_config(path).run.name == "ls"
        return
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    found = str(caught.value)
    assert found.startswith(path) and said.replace("{path}", path) in found and "\n" not in found, found


def test_aliases_that_multiply_are_not_followed(tmp_path: Path) -> None:
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="larger or deeper"):
        load_study(config_file(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"run: {name: \x80}\n", b"\x00", b"a" * (1 << 21)])
def test_bytes_that_are_no_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_config(str(path))


def test_a_byte_order_mark_and_merged_defaults_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "base: smoke.yaml\nsource: &s {steps: 3}\nalign:\n  <<: *s\n  weight: 0.5\noracle:\n  <<: *s\n  steps: 4\n"
    path.write_text("\ufeff" + text)
    config = load_config(str(path))
    assert (config.align.steps, config.align.weight, config.oracle.steps) == (3, 0.5, 4)


def test_an_option_that_moved_works_under_its_old_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(renamed.RENAMED, "training.rate", "optim.lr")
    monkeypatch.setitem(renamed.RENAMED, "tuning", "eval")
    said: list[str] = []
    path = config_file(tmp_path, "base: smoke.yaml\ntraining:\n  rate: 0.5\ntuning: {every: 7}\n")
    config = load_config(path, ["tuning.images=3"], said.append)
    assert (config.optim.lr, config.eval.every, config.eval.images) == (0.5, 7, 3)
    assert (
        len(said) == 1 and "training.rate is now optim.lr" in said[0] and "tuning.images is now eval.images" in said[0]
    )
    with pytest.raises(ConfigError, match=r"optim\.lr: is given twice"):
        load_config("smoke.yaml", ["training.rate=1", "optim.lr=2"])
    assert load_config(path, ["optim.lr=0.25"]).optim.lr == 0.25


def test_shipped_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/smoke.yaml") == load_config("smoke.yaml") == load_config("./configs/smoke.yaml")
    assert load_config(config_file(tmp_path, "base: configs/smoke.yaml\noptim: {lr: 0.5}\n")).optim.lr == 0.5
    assert load_study("configs/sweeps/smoke.yaml").base
    with pytest.raises(ConfigError, match=r"did you mean configs/gta5_cityscapes/advent\.yaml"):
        load_config("gta5_cityscapes/advnt.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match="is not a file that can be read"):
        load_config("folder.yaml")
    with pytest.raises(ConfigError, match="no file"):
        load_config("x" * 5000)


def test_an_option_that_may_be_left_unset_is_unset_by_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: streets.yaml\ndata: {mean: null, scale: ~}\n")
    for config in (load_config(str(file)), load_config("streets.yaml", ["data.mean=", "data.scale=null"])):
        assert config.data.mean is None and config.data.scale is None and config.data.deviation is None
    kept = load_config("streets.yaml")
    assert kept.data.mean == (104, 108, 112) and kept.data.scale == 64
    assert load_config(str(_written(tmp_path / "again.yaml", dump(config)))) == config
    for word, said in (("data.mean=[1,2]", "takes 3 values"), ("data.scale=-1", "must be positive")):
        with pytest.raises(ConfigError, match=said):
            load_config("streets.yaml", [word])
    with pytest.raises(ConfigError, match=r"data\.deviation: .*unset that with data\.scale="):
        load_config("streets.yaml", ["data.deviation=[1,1,1]"])


def test_the_flat_options_of_the_first_network_still_work() -> None:
    said: list[str] = []
    config = load_config("smoke.yaml", ["model.width=12", "model.layers=[1,2,1,1]"], said.append)
    assert config.model.deeplabv2.width == 12 and config.model.deeplabv2.layers == (1, 2, 1, 1)
    assert len(said) == 1 and "model.width is now model.deeplabv2.width" in said[0]


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
