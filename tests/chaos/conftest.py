"""The uninterrupted run that every drill is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.drill import Drill


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded pair; the first start makes it."""
    return tmp_path_factory.mktemp("chaos-data")


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, Any]:
    drill = Drill(tmp_path_factory.mktemp("chaos") / "uninterrupted", data)
    drill.finish()
    outcome = drill.outcome()
    assert sorted(outcome["weights"]) == ["align", "initial", "selftrain", "source"]
    assert len(outcome["labels"]) == 24 and len(outcome["steps"]) == 32
    return outcome
