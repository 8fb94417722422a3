"""The code of the how-to pages, taken from them and used as they say."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from esl_dist.config.schema import DomainConfig
from esl_dist.data import open_dataset, sets

ROOT = Path(__file__).resolve().parents[2]


def first_code(page: str) -> str:
    """The page's first block of Python."""
    text = (ROOT / "docs/how-to" / page).read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found, page
    return found[1]


def code(page: str) -> dict[str, Any]:
    """What that block defines."""
    names: dict[str, Any] = {}
    exec(compile(first_code(page), page, "exec"), names)
    return names


def test_the_loss_has_a_gradient() -> None:
    logits = torch.randn(2, 5, 8, 8, requires_grad=True)
    loss = code("add-a-loss.md")["sharpen"](logits, None)
    loss.backward()
    assert loss.dim() == 0 and logits.grad is not None and logits.grad.abs().sum() > 0


def test_the_data_set_finds_images_with_their_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, shape in (("img", (8, 16, 3)), ("lab", (8, 16))):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            Image.fromarray(np.full(shape, 7, np.uint8)).save(tmp_path / folder / f"{name}.png")
    monkeypatch.setitem(sets.DATASETS, "plots", code("add-a-data-set.md")["layout"])
    found = open_dataset(DomainConfig(dataset="plots", root=".", split="", labelled=True), str(tmp_path), "19")
    assert list(found.names) == ["a", "b"] and (found.label(0) == 0).all()  # Cityscapes' 7 is road


def test_the_network_keeps_its_promises() -> None:
    network = code("network.md")["build"](SimpleNamespace(width=8), 19)
    states = []
    for _ in range(2):
        network.initialise(3, "kaiming")
        states.append({name: entry.clone() for name, entry in network.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    for size in ((33, 65), (64, 128)):
        found = network(torch.randn(1, 3, *size), features=True)
        assert found.outputs.main.shape[2:] == network.output_size(size) and found.outputs.aux is None
        assert found.features.shape[1] == network.feature_channels
    grouped = [name for group in network.parameter_groups() for name, _ in group.parameters]
    assert sorted(grouped) == sorted(name for name, _ in network.named_parameters())
