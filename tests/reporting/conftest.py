"""One small pair of domains for all tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.made_run import make_data, make_run


@pytest.fixture(scope="session")
def run_maker(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``run_maker(folder, **options)`` writes a run folder and returns it."""
    data = tmp_path_factory.mktemp("data") / "streets"
    streets = make_data(data)

    def make(path: Path, **options: Any) -> Path:
        make_run(path, data, streets, **options)
        return path

    return make


@pytest.fixture(scope="session")
def run(run_maker: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run that no test changes, but for its report."""
    return run_maker(tmp_path_factory.mktemp("runs") / "streets")
