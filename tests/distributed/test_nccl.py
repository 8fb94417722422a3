"""What NCCL adds with is named before a deterministic group is brought up, and the user's word is kept."""

from __future__ import annotations

import logging
import os

import pytest

from esl_dist.distributed import nccl


@pytest.mark.parametrize(
    ("given", "said"),
    [({}, False), ({"NCCL_ALGO": "Ring,Tree"}, True), ({"NCCL_PROTO": "Simple"}, False)],
)
def test_the_users_word_wins_and_is_said(
    given: dict[str, str], said: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in nccl.FIXED:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANK", "0")
    with caplog.at_level(logging.INFO, "esl_dist"):
        nccl.fix_order()
    assert {name: os.environ[name] for name in nccl.FIXED} == {**nccl.FIXED, **given}
    assert bool(caplog.messages) is said and all("NCCL_ALGO=Ring,Tree" in line for line in caplog.messages)
    for name in nccl.FIXED:
        monkeypatch.delenv(name)  # set by what was tested, so no fixture would take it back
