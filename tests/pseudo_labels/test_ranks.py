"""Real gloo ranks: the same thresholds and the same PNGs for every number of them, killed and continued or not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.errors import StoppedBySignal
from esl_dist.pseudo_labels.selection import class_quantiles
from esl_dist.pseudo_labels.sets.fingerprint import same_on_all_ranks
from tests.pseudo_labels.common import hashes, run, small_logits
from tests.ranks import run_ranks

HERE = "tests.pseudo_labels.test_ranks"
IMAGES = 11
SETTINGS = (PseudoLabelConfig(), PseudoLabelConfig(rule="ssl"), PseudoLabelConfig(rule="median", rank="upper"))
Content = dict[str, Any]


def extract_here(
    out: Path,
    images: int = IMAGES,
    spool: str = "scores",
    broken: int = -1,
    spool_dir: str = "",
    watch: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> Any:
    """The content of each ``thresholds.json``, or the line that the user reads."""
    logits = [small_logits(i) for i in range(images)]
    if broken >= 0:
        logits[broken] = np.full_like(logits[broken], np.nan)
    try:
        made = run(logits, out, *SETTINGS, spool=spool, shard=2, batch=2, spool_dir=spool_dir, watch=watch, stop=stop)
    except ValueError as error:
        return str(error)
    return [label_set.thresholds for label_set in made]


def comparable(contents: list[Content]) -> list[Content]:
    """All but the world size, which alone may differ."""
    return [{key: value for key, value in content.items() if key != "world_size"} for content in contents]


def quantiles_here() -> list[list[float]]:
    """Every rule and confidence over shards of which the last rank of four has none."""
    draw = np.random.RandomState(0)
    shards = [(draw.randint(0, 4, 50).astype(np.uint8), draw.random_sample(50).astype(np.float32)) for _ in range(5)]
    mine = shards[collectives.rank() :: min(collectives.world(), 3)] if collectives.rank() < 3 else []
    return [
        [float(x) for x in class_quantiles(mine, 4, rule, kind=kind)]
        for rule in ("keep", "lower", "upper", "reference")
        for kind in ("entropy", "probability")
    ]  # type: ignore[arg-type]


def stacks_here() -> str:
    try:
        same_on_all_ranks({"cuDNN": 90100 + (collectives.rank() == 1), "canary": "x"})
    except ValueError as error:
        return str(error)
    return ""


def several_things_on_a_rank(out: str, spool: str) -> Content:
    """What a rank of two, three or four does in these tests; one start of the processes for all of it."""
    folder = Path(out)
    return {
        "shared": extract_here(folder / "shared", spool=spool),
        "node": extract_here(folder / "node", spool_dir=str(folder / f"disk{collectives.rank()}")),
        "idle": extract_here(folder / "idle", images=2),
        "broken": extract_here(folder / "broken", broken=3),
        "quantiles": quantiles_here(),
        "stacks": stacks_here(),
    }


def extract_and_die(out: str, forwards: int) -> None:
    """Rank 0 is killed with ``kill -9`` before forward number ``forwards``."""
    done = 0

    def watch() -> None:
        nonlocal done
        done += 1
        if done == forwards and collectives.rank() == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    extract_here(Path(out), watch=watch)


@pytest.mark.parametrize(
    ("world", "spool"), [(2, "none"), pytest.param(3, "logits", marks=pytest.mark.slow), (4, "logits")]
)
def test_every_number_of_ranks_makes_the_same_files(world: int, spool: str, tmp_path: Path) -> None:
    alone = comparable(extract_here(tmp_path / "alone"))
    alone_idle = comparable(extract_here(tmp_path / "alone-idle", images=2))
    quantiles = quantiles_here()
    for result in run_ranks(world, f"{HERE}:several_things_on_a_rank", str(tmp_path), spool):
        assert all(content["world_size"] == world for content in result["shared"] + result["node"] + result["idle"])
        assert comparable(result["shared"]) == comparable(result["node"]) == alone
        assert comparable(result["idle"]) == alone_idle
        assert result["quantiles"] == quantiles
        assert "town/003: 175 of 175 logits are NaN or infinite" in result["broken"], (
            "all ranks stop with the same line"
        )
        assert result["stacks"].startswith("rank 1 runs another stack than rank 0 (cuDNN: 90101 there, 90100 here)")
    assert hashes(tmp_path / "shared") == hashes(tmp_path / "node") == hashes(tmp_path / "alone")
    assert len(hashes(tmp_path / "shared")) == 3 * IMAGES
    assert hashes(tmp_path / "idle") == hashes(tmp_path / "alone-idle")
    assert all(list((tmp_path / f"disk{rank}").rglob("rank*.h5")) for rank in range(world)), (
        "each rank spooled on its own disk"
    )


@pytest.mark.parametrize("spool", ["scores", "logits", "none"])
def test_a_set_that_is_stopped_at_every_meeting_is_finished_all_the_same(spool: str, tmp_path: Path) -> None:
    """A signal at the first meeting of the work, started again and signalled at the second, and so on."""
    whole = extract_here(tmp_path / "whole", spool=spool)
    for meetings in range(1, 30):
        asked = iter(range(meetings))
        try:
            made = extract_here(tmp_path / "stopped", spool=spool, stop=lambda a=asked: next(a, None) is None)
            break
        except StoppedBySignal:
            assert not list((tmp_path / "stopped").glob("*/thresholds.json"))
    assert meetings > 5, "it was hardly ever stopped"
    assert made == whole and hashes(tmp_path / "stopped") == hashes(tmp_path / "whole")


def test_a_run_killed_in_the_middle_is_continued_by_another_number_of_ranks(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exited -9"):
        run_ranks(2, f"{HERE}:extract_and_die", str(tmp_path / "killed"), 4)
    spooled = {path: path.read_bytes() for path in sorted((tmp_path / "killed" / "spool").glob("rank*.h5"))}
    assert spooled and not list(tmp_path.rglob("*.png"))
    assert comparable(extract_here(tmp_path / "killed")) == comparable(extract_here(tmp_path / "whole"))
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")
    assert all(path.read_bytes() == content for path, content in spooled.items()), "finished files stay"
