"""A method in a user's own file: the protocol is all that it needs, and nothing in the package knows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esl_dist.config.entries import Entry
from esl_dist.config.load import load_config
from esl_dist.config.schema import Config
from esl_dist.distributed import ddp
from esl_dist.engine.optim import Adam, Poly, Recipe
from esl_dist.engine.step import Losses, Pair, Streams
from esl_dist.entries import train
from esl_dist.methods import identity, plan
from esl_dist.methods.kit import Kit, Training
from esl_dist.methods.networks import passes_of, trained_segmenter
from esl_dist.methods.node import Node, Work
from esl_dist.methods.passes import Passes
from esl_dist.methods.planning import last, needs
from esl_dist.methods.stage import Stage
from esl_dist.methods.streams import both_domains


class Brightness:
    """Asks for the same mean logit on source and target images: of no use but to be a method."""

    needs_target = True

    def __init__(self, segmenter: nn.Module, passes: Passes) -> None:
        self.segmenter, self.passes = segmenter, passes

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"segmenter": self.segmenter}

    def step(self, micro: Sequence[Pair]) -> Losses:
        (pair,) = micro
        assert pair.target is not None
        with ddp.sync_if(self.segmenter, True):
            images = torch.cat([pair.source.images, pair.target.images])
            logits = self.passes.forward(self.segmenter, images).logits
            source, target = logits.main.chunk(2)
            loss = (source.mean() - target.mean()) ** 2 + 0.0 * sum(h.sum() for h in logits if h is not None)
            self.passes.backward(loss)
        return {"brightness": loss.detach()}


class Toy:
    """The method."""

    name = "toy"

    def plan(self, entry: Entry, config: Config, before: Sequence[Node]) -> Sequence[Node]:
        return [Stage(entry.word, "toy", self, 3, "toy method", needs=needs(init=last(before, "start")))]

    def identity(self, stage: Stage, config: Config) -> dict[str, Any]:
        return identity.options(config, ("data", "model", "optim"))

    def build(self, stage: Stage, kit: Kit) -> Training:
        segmenter = trained_segmenter(kit, kit.weights(stage.needs.get("init", "")), learns_aux=True)
        return Training(Brightness(segmenter, passes_of(kit)), Recipe({"segmenter": Adam(1e-3)}, Poly(stage.steps)))

    def streams(self, stage: Stage, work: Work, start: int) -> Streams:
        return both_domains(work, stage, start, {"labels": False})

    def finish(self, stage: Stage, work: Work) -> None:
        pass


WORD = f"{__name__}:Toy"


def test_it_trains_is_scored_reported_and_its_labels_are_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--config",
        "configs/smoke.yaml",
        f'run.stages=[initial,"{WORD}",selftrain]',
        "run.device=cpu",
        f"run.dir={tmp_path}/run",
        f"data.root={tmp_path}/data",
        "tracking.mlflow=false",
        "eval.bn_statistics=[running]",
    ]
    assert train.main(words) == 0
    table = capsys.readouterr().out
    assert "toy method" in table and "ESL" in table
    assert (tmp_path / "run" / "toy" / "metrics-running.json").is_file()
    learned = json.loads((tmp_path / "run" / "selftrain" / "stage.json").read_text())
    assert learned["teacher"] == "toy", "what a method adapted teaches"
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("loss/brightness" in line for line in losses)


@pytest.mark.parametrize("word", ["no.such.module:Toy", f"{__name__}:Absent", "toys"])
def test_one_that_is_not_there_is_one_line(word: str) -> None:
    with pytest.raises(ValueError, match=r"^run\.stages: (cannot import|unknown stage)"):
        plan(load_config("smoke.yaml", [f'run.stages=[initial,"{word}"]']))
