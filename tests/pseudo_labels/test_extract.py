"""Extraction as a whole on one rank: every spool gives the same labels, and what is wrong is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from esl_dist.config.schema import ExtractConfig, PseudoLabelConfig
from esl_dist.pseudo_labels import extraction
from esl_dist.pseudo_labels.scores import keys, scorer, spec
from esl_dist.pseudo_labels.selection import class_quantiles
from esl_dist.pseudo_labels.sets import forward as forwards
from esl_dist.pseudo_labels.sets import parallel, spool, spooling
from esl_dist.pseudo_labels.thresholds import counting, reduced
from tests.pseudo_labels.common import SIZE, hashes, numbers, run, small_logits

ESL, SSL, MEDIAN = PseudoLabelConfig(), PseudoLabelConfig(rule="ssl"), PseudoLabelConfig(rule="median")
CBST = PseudoLabelConfig(rule="cbst", portion=0.3)
LOGITS = [small_logits(i) for i in range(10)]


def label(out: Path, i: int) -> np.ndarray:
    return np.asarray(Image.open(out / "labels" / "town" / f"{i:03d}.png"))


def test_labels_and_thresholds_equal_a_plain_numpy_sort_over_all_scores(tmp_path: Path) -> None:
    esl, ssl = run(LOGITS, tmp_path, ESL, SSL)
    scored = [spec.score(z, (SIZE[1], SIZE[0])) for z in LOGITS]
    labels, entropies, probabilities = (np.stack(maps) for maps in zip(*scored, strict=True))
    for c, (for_esl, for_ssl) in enumerate(zip(esl.thresholds["classes"], ssl.thresholds["classes"], strict=True)):
        e, p = np.sort(entropies[labels == c]), np.sort(probabilities[labels == c])
        assert for_esl["count"] == for_ssl["count"] == len(e) and for_esl["name"] == f"class {c}"
        if c == 4:
            assert len(e) == 0 and for_esl["median"] is None and for_ssl["median"] is None
            assert for_esl["threshold"] == pytest.approx(0.1) and for_ssl["threshold"] == pytest.approx(0.9)
            continue
        nu, mu = e[-(-len(e) // 2) - 1], p[len(p) - -(-len(p) // 2)]
        assert for_esl["median"] == nu and for_ssl["median"] == mu
        assert for_esl["threshold"] == max(nu, for_esl["threshold"]) and (
            for_esl["threshold"] == nu or abs(for_esl["threshold"] - 0.1) < 1e-8
        )
        assert for_esl["kept"] == (e <= max(nu, 0.1)).sum() and for_ssl["kept"] == (p >= min(mu, 0.9)).sum()
    for i in range(10):
        thresholds = np.array([entry["threshold"] for entry in esl.thresholds["classes"]])
        assert (label(esl.out, i) == np.where(entropies[i] <= thresholds[labels[i]], labels[i], 255)).all()
    assert class_quantiles(list(zip(labels, entropies, strict=True)), 5)[:4].tolist() == [
        entry["median"] for entry in esl.thresholds["classes"][:4]
    ]


def test_every_spool_and_no_spool_give_the_same_files(tmp_path: Path) -> None:
    results = []
    for content in ("scores", "logits", "memory", "none"):
        made = run(
            LOGITS, tmp_path / content, ESL, SSL, MEDIAN, PseudoLabelConfig(ties="drop", rank="upper"), spool=content
        )
        shutil.rmtree(tmp_path / content / "spool", ignore_errors=True)
        results.append((hashes(tmp_path / content), [numbers(label_set) for label_set in made]))
    assert len(results[0][0]) == 40
    assert all(result == results[0] for result in results)


def test_without_numba_the_files_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run(LOGITS, tmp_path / "with", ESL, SSL)
    monkeypatch.setattr(counting, "compiled", lambda: None)
    monkeypatch.setattr(scorer, "compiled_loops", lambda: None)
    lines: list[str] = []
    without = run(LOGITS, tmp_path / "without", ESL, SSL, lines=lines)
    assert "scores: exact (numpy)" in lines
    assert [numbers(a) for a in without] == [numbers(b) for b in made]
    assert [hashes(a.out) for a in without] == [hashes(b.out) for b in made]


def test_a_one_pixel_class_and_exact_zeros(tmp_path: Path) -> None:
    z = np.full((3, 2, 2), -200, np.float32)
    z[0] = 0
    z[:, 0, 0] = [-200, 0, -200]
    (made,) = run([z], tmp_path, MEDIAN, size=(2, 2))
    assert [entry["count"] for entry in made.thresholds["classes"]] == [3, 1, 0]
    assert [entry["median"] for entry in made.thresholds["classes"]] == [0.0, 0.0, None]
    assert (label(made.out, 0) == [[1, 0], [0, 0]]).all()


@pytest.mark.parametrize("spool", ["logits", "none"])
def test_cbst_relabels_by_the_ratio_and_keeps_from_one_on(spool: str, tmp_path: Path) -> None:
    logits = [
        np.random.RandomState(i).standard_normal((5, 5, 7)).astype(np.float32) * np.float32(0.3) for i in range(10)
    ]
    for z in logits:
        # class 0 is sure in half of the image and wins by a hair in the other, where its threshold now rules it out
        z[0, :, :4] += 6
        z[4] = -50
    (made,) = run(logits, tmp_path, CBST, spool=spool)
    q = np.stack([spec.probabilities(z, (SIZE[1], SIZE[0])) for z in logits])
    first, best = q.argmax(1), q.max(1)
    t = np.ones(5, np.float32)
    for c in range(4):
        values = np.sort(best[first == c])
        t[c] = values[len(values) - max(int(len(values) * 3 // 10), 1)]
        assert made.thresholds["classes"][c]["threshold"] == t[c]
    ratio = q / t[:, None, None]
    expected = np.where(ratio.max(1) >= 1, ratio.argmax(1), 255)
    assert (np.stack([label(made.out, i) for i in range(10)]) == expected).all()
    assert (expected != np.where(expected == 255, 255, first)).any(), "some pixel changes its class"
    assert made.thresholds["portion"] == 0.3 and made.thresholds["kept"] == (expected != 255).sum()


def test_cbst_needs_more_than_a_spool_of_scores(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"extract\.spool=logits"):
        run(LOGITS, tmp_path, CBST, spool="scores")
    run(LOGITS, tmp_path, ESL, spool="scores")
    with pytest.raises(ValueError, match=r"extract\.spool=logits"):
        run(LOGITS, tmp_path, CBST, from_spool=True)


def test_windows_have_medians_of_their_own(tmp_path: Path) -> None:
    whole, windowed = run(LOGITS, tmp_path / "a", ESL, PseudoLabelConfig(window=4))
    for part, ids in enumerate((range(0, 4), range(4, 8), range(8, 10))):
        (alone,) = run([LOGITS[i] for i in ids], tmp_path / f"part{part}", ESL)
        for mine, theirs in zip(windowed.thresholds["windows"][part], alone.thresholds["classes"], strict=True):
            assert {key: mine[key] for key in ("count", "median", "threshold")} == {
                key: theirs[key] for key in ("count", "median", "threshold")
            }
        for position, i in enumerate(ids):
            assert (label(windowed.out, i) == label(alone.out, position)).all()
    assert [entry["count"] for entry in windowed.thresholds["classes"]] == [
        entry["count"] for entry in whole.thresholds["classes"]
    ]
    assert hashes(whole.out) != hashes(windowed.out)


def test_images_may_have_sizes_of_their_own(tmp_path: Path) -> None:
    def size(i: int) -> tuple[int, int]:
        return 10 + i, 30 - i

    results = [
        hashes(run(LOGITS, tmp_path / content, ESL, spool=content, output_size=size)[0].out)
        for content in ("scores", "logits", "none")
    ]
    assert results[0] == results[1] == results[2]
    assert [label(tmp_path / "logits" / "0", i).shape for i in (0, 9)] == [(10, 30), (19, 21)]


def test_from_a_spool_other_thresholds_need_no_forward(tmp_path: Path) -> None:
    other = [PseudoLabelConfig(nu=0.3), PseudoLabelConfig(rule="ssl", mu=0.7)]
    direct = run(LOGITS, tmp_path / "direct", *other)
    for content in ("scores", "logits"):
        run(LOGITS, tmp_path / content, ESL, SSL, spool=content)
        lines: list[str] = []
        again = run(LOGITS, tmp_path / content, *other, from_spool=True, lines=lines)
        assert not any(line.startswith("inference") for line in lines)
        assert [hashes(a.out) for a in again] == [hashes(b.out) for b in direct]
    small = run(LOGITS, tmp_path / "logits", *other, from_spool=True, size=(16, 9))
    assert [hashes(a.out) for a in small] == [
        hashes(b.out) for b in run(LOGITS, tmp_path / "small", *other, size=(16, 9))
    ]
    with pytest.raises(ValueError, match="scores: 'exact 40x24' there, 'exact 16x9' here"):
        run(LOGITS, tmp_path / "scores", *other, from_spool=True, size=(16, 9))
    run(LOGITS, tmp_path / "entropy", ESL)
    with pytest.raises(ValueError, match="holds entropy only, but a rule needs probability"):
        run(LOGITS, tmp_path / "entropy", SSL, from_spool=True)
    with pytest.raises(ValueError, match="no spool there"):
        run(LOGITS, tmp_path / "nothing", ESL, from_spool=True)
    with pytest.raises(ValueError, match="checkpoint: 'c0ffee' there, 'other' here"):
        run(LOGITS, tmp_path / "scores", SSL, from_spool=True, checkpoint="other")


def test_a_finished_set_is_left_alone_and_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    (made,) = run(LOGITS, tmp_path, ESL)
    before = hashes(made.out)
    path = made.out / "labels" / "town" / "003.png"
    stamp = path.stat().st_mtime_ns
    lines: list[str] = []
    (again,) = run(LOGITS, tmp_path, ESL, lines=lines)
    assert (
        lines == ["labels 0: already there"]
        and path.stat().st_mtime_ns == stamp
        and again.thresholds == made.thresholds
    )
    path.write_bytes(path.read_bytes()[:-5])
    run(LOGITS, tmp_path, ESL)
    assert hashes(made.out) == before
    path.unlink()
    run(LOGITS, tmp_path, ESL)
    assert hashes(made.out) == before
    run(LOGITS, tmp_path, PseudoLabelConfig(nu=0.99))
    assert json.loads((made.out / "thresholds.json").read_text())["nu"] == 0.99 and hashes(made.out) != before


def test_a_spool_of_another_network_or_a_damaged_one_is_refused_by_name(tmp_path: Path) -> None:
    run(LOGITS, tmp_path, ESL)
    with pytest.raises(
        ValueError, match=r"rank0000-00000\.h5 was written by another run \(checkpoint: 'c0ffee' there, 'other' here\)"
    ):
        run(LOGITS, tmp_path, ESL, checkpoint="other")
    file = tmp_path / "spool" / "rank0000-00001.h5"
    with h5py.File(file, "r+") as handle:
        handle["entropy/4"][3, 3] += 0.25
    with pytest.raises(ValueError, match=r"rank0000-00001\.h5: image town/004 is damaged"):
        run(LOGITS, tmp_path, PseudoLabelConfig(nu=0.2))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"rank0000-00001\.h5: not a readable spool file; delete it"):
        run(LOGITS, tmp_path, PseudoLabelConfig(nu=0.2))
    file.unlink()
    with pytest.raises(ValueError, match=r"lacks 3 of 10 images \(the first: town/003\)"):
        run(LOGITS, tmp_path, PseudoLabelConfig(nu=0.2), from_spool=True)
    lines: list[str] = []
    run(LOGITS, tmp_path, PseudoLabelConfig(nu=0.2), lines=lines)
    assert "spool: 7 of 10 images are there already" in lines
    shutil.copy(file.with_name("rank0000-00002.h5"), file.with_name("rank0007-00000.h5"))
    with h5py.File(file.with_name("rank0007-00000.h5"), "r+") as handle:
        handle.attrs["key"] = "another"
        handle.attrs["index crc"] = spool._index_checksum(handle)
    with pytest.raises(ValueError, match="is in two spool files, so it would count twice"):
        run(LOGITS, tmp_path, PseudoLabelConfig(nu=0.4))


def test_an_image_lost_between_counting_and_writing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = extraction.choose

    def losing_one(*arguments: Any) -> Any:
        chosen = original(*arguments)
        return dataclasses.replace(chosen, readable=list(chosen.readable)[1:])

    monkeypatch.setattr(extraction, "choose", losing_one)
    with pytest.raises(ValueError, match="thresholds are of 9600 pixels of 10 images, labels of 8640 of 9"):
        run(LOGITS, tmp_path, ESL)
    assert not (tmp_path / "0" / "thresholds.json").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("spool", ["scores", "logits", "none"])
def test_logits_that_are_not_finite_name_the_image(bad: float, spool: str, tmp_path: Path) -> None:
    logits = [z.copy() for z in LOGITS]
    logits[6][2, 1, 1] = bad
    with pytest.raises(ValueError, match="town/006: 1 of 175 logits are NaN or infinite"):
        run(logits, tmp_path, ESL, spool=spool)
    assert not (tmp_path / "0" / "thresholds.json").exists()
    assert not list((tmp_path / "spool").glob(".*")) if spool != "none" else True


def test_space_is_asked_for_before_the_first_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1000))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"extract\.spool: 88960 bytes .* are needed in .*, 1000 .* are free"):
        run(LOGITS, tmp_path, ESL)
    assert not list((tmp_path / "spool").iterdir())


def test_a_spool_folder_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAST_DISK", str(tmp_path / "fast"))
    (made,) = run(LOGITS, tmp_path / "out", ESL, spool_dir="$FAST_DISK")
    assert len(list((tmp_path / "fast").rglob("rank*.h5"))) == 4 and not (tmp_path / "out" / "spool").exists()
    assert hashes(made.out) == hashes(run(LOGITS, tmp_path / "plain", ESL)[0].out)


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    from esl_dist.runs import LabelSetFolder

    for name in ("../x", "a/../../x", "/etc/x", ""):
        with pytest.raises(ValueError, match="outside the label folder"):
            LabelSetFolder(tmp_path).label(name)


def test_a_forward_that_depends_on_the_slot_is_refused() -> None:
    def forward(images: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(images), dtype=torch.float32)[:, None, None, None].expand(-1, 3, 2, 2)

    with pytest.raises(ValueError, match=r"extract\.batch=1"):
        forwards.canary(forward, ExtractConfig().batch, (8, 8))


def test_what_is_forgotten_between_two_forwards_changes_no_comparison() -> None:
    draw = np.random.RandomState(1)
    for _ in range(200):
        bins = draw.choice([-1, 0, 1, 5, 6, 900, 16000], (2, 3))
        bound = int(draw.choice([0, 5 << 16, (900 << 16) + 77]))
        table = reduced.substitutes(list(bins), [bound], 3, keys.HIGH_BINS)
        key = np.sort(
            np.concatenate(
                [
                    draw.randint(0, keys.KEY_LIMIT, 50),
                    (draw.choice([0, 1, 5, 6, 7, 900], 50) << 16) + draw.randint(0, 65536, 50),
                ]
            )
        )
        for c in range(3):
            whole = table[c, key >> 16]
            shown = np.where(whole < 0, key, whole << 16)
            for b in [int(row[c]) for row in bins if row[c] >= 0] + [bound >> 16]:
                for threshold in ((b << 16) + int(draw.randint(65536)), b << 16, (b << 16) + 65535):
                    for t in (threshold, threshold - 1):  # what an entropy is compared with, ties kept or dropped
                        assert ((key <= t) == (shown <= t)).all()
                    for t in (threshold, threshold + 1):  # and a probability
                        assert ((key >= t) == (shown >= t)).all()


def test_work_overlaps_in_order_and_the_first_error_comes_out() -> None:
    assert list(parallel.overlapped(lambda x: x * x, range(50), 3)) == [x * x for x in range(50)]

    def fails(x: int) -> int:
        if x == 7:
            raise ValueError("seven")
        return x

    seen = []
    with pytest.raises(ValueError, match="seven"):
        for value in parallel.overlapped(fails, range(1000), 2):
            seen.append(value)
    assert seen == list(range(7))
