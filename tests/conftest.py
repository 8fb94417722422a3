"""What every test starts with: the package's logger and torch's global switches as they were before an entry ran in
this process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long tests go far into compilers, exporters and Ray, whose warnings come and go with their releases: there
    they are shown, elsewhere they are errors (``filterwarnings`` in pyproject.toml).
    """
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Entries install handlers and stop propagation (``setup_logging``); the next test must not inherit that."""
    package = logging.getLogger("esl_dist")
    handlers, propagate, level, raises = (
        list(package.handlers),
        package.propagate,
        package.level,
        logging.raiseExceptions,
    )
    yield
    for handler in package.handlers:
        if handler not in handlers:
            handler.close()
    package.handlers[:] = handlers
    package.propagate, logging.raiseExceptions = propagate, raises
    package.setLevel(level)


@pytest.fixture(autouse=True)
def untouched_torch() -> Iterator[None]:
    """``Runtime.start`` chooses threads and deterministic kernels for its process; a spool's fingerprint tells them
    apart.
    """
    import torch

    threads, deterministic, warn_only = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn = torch.backends.cudnn
    flags = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, torch.backends.cuda.matmul.allow_tf32 = flags
