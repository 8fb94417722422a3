"""What is missing in a spool is made, and nothing else; what is damaged or foreign is refused by name."""

from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels import from_logits
from esl_dist.pseudo_labels.sets import spool
from esl_dist.pseudo_labels.sets.label_sets import LabelSet
from tests.pseudo_labels.common import hashes, numbers, run, small_logits

ESL, SSL, CBST = PseudoLabelConfig(), PseudoLabelConfig(rule="ssl"), PseudoLabelConfig(rule="cbst", portion=0.3)
MARGIN = PseudoLabelConfig(rule="margin")
LOGITS = [small_logits(i) for i in range(10)]


def same(a: list[LabelSet], b: list[LabelSet]) -> bool:
    return [(numbers(x), hashes(x.out)) for x in a] == [(numbers(x), hashes(x.out)) for x in b]


@pytest.mark.parametrize("then", [[SSL], [ESL, MARGIN], [CBST]])
def test_a_rule_that_comes_later_adds_what_the_spool_lacks(then: list[PseudoLabelConfig], tmp_path: Path) -> None:
    run(LOGITS, tmp_path / "a", ESL, spool="auto")
    before = {path.name: spool.inspect(path, None)[0] for path in (tmp_path / "a" / "spool").glob("rank*.h5")}
    lines: list[str] = []
    later = run(LOGITS, tmp_path / "a", ESL, *then, spool="auto", lines=lines)
    assert lines[0] == "labels 0: already there" and "spool: 10 images there have not all that the rules read" in str(
        lines
    )
    assert lines.count("network loaded") == 1
    after = {path.name: spool.inspect(path, None)[0] for path in (tmp_path / "a" / "spool").glob("rank*.h5")}
    assert [(info.key, info.ids) for info in before.values()] == [(after[name].key, after[name].ids) for name in before]
    assert same(later, run(LOGITS, tmp_path / "b", ESL, *then, spool="logits" if CBST in then else "scores"))
    lines.clear()
    run(LOGITS, tmp_path / "a", PseudoLabelConfig(nu=0.2), *then, spool="auto", lines=lines)
    assert "network loaded" not in lines, "the spool has all now"


def test_a_spool_of_logits_serves_every_rule_without_the_network(tmp_path: Path) -> None:
    run(LOGITS, tmp_path, ESL, spool="logits")
    lines: list[str] = []
    found = run(LOGITS, tmp_path, ESL, SSL, MARGIN, CBST, spool="auto", lines=lines)
    assert "network loaded" not in lines
    assert same(found, run(LOGITS, tmp_path / "b", ESL, SSL, MARGIN, CBST, spool="none"))


def test_a_spool_cut_short_is_continued_with_another_rule(tmp_path: Path) -> None:
    run(LOGITS, tmp_path, ESL)
    (tmp_path / "spool" / "rank0000-00001.h5").unlink()
    lines: list[str] = []
    found = run(LOGITS, tmp_path, SSL, lines=lines)
    assert {"spool: 7 of 10 images are there already"} <= set(lines)
    assert same(found, run(LOGITS, tmp_path / "b", SSL))


def test_another_network_is_refused_when_something_is_added(tmp_path: Path) -> None:
    run(LOGITS, tmp_path, ESL)
    changed = [z + np.float32(0.25) * (np.arange(5) == 1)[:, None, None] for z in LOGITS]
    with pytest.raises(ValueError, match=r"another run .canary: '[0-9a-f]{16}' there, '[0-9a-f]{16}' here"):
        run([z.astype(np.float32) for z in changed], tmp_path, SSL)


def test_library_scores_are_checked_only_where_a_rule_reads_them(tmp_path: Path) -> None:
    logits = [z.copy() for z in LOGITS]
    logits[3][:, 0, 0] = [200, -200, -200, -200, -200]  # the published entropy is NaN there
    with pytest.raises(ValueError, match=r"town/003: entropy: .* NaN"):
        run(logits, tmp_path / "esl", PseudoLabelConfig(scores="library"))
    (made,) = run(logits, tmp_path / "ssl", PseudoLabelConfig(rule="ssl", scores="library"))
    assert made.thresholds["images"] == 10
    assert not (tmp_path / "esl" / "0" / "thresholds.json").exists()


def test_links_out_of_a_spool_file_are_refused(tmp_path: Path) -> None:
    run(LOGITS, tmp_path, ESL)
    path = tmp_path / "spool" / "rank0000-00000.h5"
    original = path.read_bytes()
    with h5py.File(tmp_path / "elsewhere.h5", "w") as other:
        other["secret"] = np.zeros((24, 40), np.float32)
    for link in (h5py.ExternalLink(str(tmp_path / "elsewhere.h5"), "/secret"), h5py.SoftLink("/entropy/1")):
        path.write_bytes(original)
        with h5py.File(path, "r+") as file:
            del file["entropy/0"]
            file["entropy/0"] = link
        with pytest.raises(ValueError, match=r"rank0000-00000\.h5: entropy/0 is a link to elsewhere"):
            run(LOGITS, tmp_path, SSL)
    path.write_bytes(original)
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(24 * 40 * 4))
    with h5py.File(path, "r+") as file:
        del file["entropy/0"]
        file["entropy"].create_dataset("0", (24, 40), np.float32, external=[(str(raw), 0, 24 * 40 * 4)])
    with pytest.raises(ValueError, match=r"lies in another file|not a readable spool file"):
        run(LOGITS, tmp_path, PseudoLabelConfig(nu=0.2))


def test_a_flipped_bit_is_refused_or_without_effect(tmp_path: Path) -> None:
    """Names, list, histograms, scores: what a file says is never believed when a bit of it has changed."""
    run(LOGITS[:3], tmp_path / "whole", ESL)
    (expected,) = run(LOGITS[:3], tmp_path / "whole", PseudoLabelConfig(nu=0.3))
    path = tmp_path / "whole" / "spool" / "rank0000-00000.h5"
    original = path.read_bytes()
    draw = random.Random(0)
    with h5py.File(path) as file:
        where = file["name"].id.get_offset()
    places = [where + 3, *(draw.randrange(len(original)) for _ in range(150))]
    refused = 0
    for place in places:
        damaged = bytearray(original)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            (made,) = run(LOGITS[:3], tmp_path / "whole", PseudoLabelConfig(nu=0.3 + 1e-9 * place), from_spool=True)
        except ValueError as error:
            assert "rank0000-00000.h5" in str(error) or "spool" in str(error)
            refused += 1
            assert len(str(error).splitlines()) == 1
        else:
            assert hashes(made.out) == hashes(expected.out)
    assert refused > 30


def test_version_1_files_are_read_and_extended(tmp_path: Path) -> None:
    run(LOGITS, tmp_path, ESL)
    for path in (tmp_path / "spool").glob("rank*.h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["version"] = 1
            fingerprint = file.attrs["fingerprint"]
            file.attrs["fingerprint"] = fingerprint[:-1] + ', "kinds": ["entropy"]}'
            del file.attrs["index crc"]
    assert same(run(LOGITS, tmp_path, SSL), run(LOGITS, tmp_path / "b", SSL))


CLASSES = [f"class {c}" for c in range(5)]


def test_from_logits_says_what_is_wrong_before_it_computes(tmp_path: Path) -> None:
    good = small_logits(0)
    with pytest.raises(ValueError, match=r"x and \./x are two names of one label file"):
        from_logits([("x", good), ("./x", good)], tmp_path / "a", size=(24, 40), class_names=CLASSES)
    with pytest.raises(ValueError, match="no image came"):
        from_logits([], tmp_path / "b", size=(24, 40), class_names=CLASSES)
    with pytest.raises(ValueError, match=r"256 classes: .* 2 to 255"):
        from_logits([("x", good)], tmp_path / "c", size=(24, 40), class_names=[str(c) for c in range(256)])
    seen = []

    def items() -> object:
        for name in ("a", "../b", "c"):
            seen.append(name)
            yield name, good

    with pytest.raises(ValueError, match="outside the label folder"):
        from_logits(items(), tmp_path / "d", size=(24, 40), class_names=CLASSES)  # type: ignore[arg-type]
    assert seen == ["a", "../b"]
    assert not list(tmp_path.rglob("*.png")) and not list(tmp_path.rglob("*.h5"))


def test_labels_of_other_images_do_not_stay(tmp_path: Path) -> None:
    def label(*names: str) -> LabelSet:
        items = [(name, small_logits(i)) for i, name in enumerate(names)]
        return from_logits(items, tmp_path, size=(24, 40), class_names=CLASSES)

    label("a", "b", "town/c")
    made = label("a", "d")
    assert sorted(hashes(made.out)) == ["labels/a.png", "labels/d.png"]
    (tmp_path / "thresholds.json").unlink()
    (tmp_path / "labels" / "mine.png").write_bytes(b"somebody's")
    with pytest.raises(ValueError, match=r"labels holds 1 PNG file\(s\) that are no labels of these images .* mine"):
        label("a", "d")
    assert (tmp_path / "labels" / "mine.png").read_bytes() == b"somebody's"


def test_an_extraction_says_which_names_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is nothing to label"):
        run_named([], tmp_path)
    with pytest.raises(ValueError, match="town/1 and town//1 are two names of one label file"):
        run_named(["town/1", "town//1"], tmp_path)


def run_named(names: list[str], out: Path) -> None:
    from esl_dist.config.schema import ExtractConfig
    from esl_dist.pseudo_labels.extraction import Extraction
    from esl_dist.pseudo_labels.sets.forward import TargetImages
    from esl_dist.pseudo_labels.sets.teacher import Teacher

    def never() -> None:
        raise AssertionError("names are looked at before the network is")

    Extraction(
        Teacher(never, {}, CLASSES),  # type: ignore[arg-type]
        TargetImages(names, lambda ids: [], (4, 4)),
        ExtractConfig(size=(40, 24)),
        out,
    )


@pytest.mark.parametrize("content", ["scores", "logits", "memory", "none"])
def test_images_that_cannot_be_read_are_left_out_and_named(content: str, tmp_path: Path) -> None:
    lines: list[str] = []
    (made,) = run(LOGITS, tmp_path, ESL, spool=content, broken=[3, 7], allowed=2, lines=lines)
    assert made.thresholds["unreadable"] == {f"town/00{i}": f"town/00{i}.png: cut short" for i in (3, 7)}
    assert made.thresholds["images"] == 8 and "left out: town/003.png: cut short" in lines
    left = [z for i, z in enumerate(LOGITS) if i not in (3, 7)]
    (expected,) = run(left, tmp_path / "left", ESL)
    assert made.thresholds["classes"] == expected.thresholds["classes"]
    assert list(hashes(made.out).values()) == list(hashes(expected.out).values())
    (again,) = run(LOGITS, tmp_path, ESL, spool=content, broken=[3, 7], allowed=2)
    assert not again.made and again.thresholds == made.thresholds
    if content in ("scores", "logits"):
        (other,) = run(LOGITS, tmp_path, PseudoLabelConfig(nu=0.2), from_spool=True, allowed=2, broken=[3, 7])
        assert other.thresholds["unreadable"] == made.thresholds["unreadable"]
    with pytest.raises(ValueError, match=r"target: 2 unreadable samples, data\.bad_samples allows 1; .* town/007\.png"):
        run(LOGITS, tmp_path / "more", ESL, spool=content, broken=[3, 7], allowed=1)
    assert not list((tmp_path / "more").rglob("*.png"))
