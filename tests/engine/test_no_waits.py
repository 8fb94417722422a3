"""No step waits for the device: nothing in losses, passes and steps copies from or to ordinary memory."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent.parent / "esl_dist"
PLACES = ("losses", "methods/passes.py", "methods/supervised.py", "methods/adaptation", "engine/device_step.py")
"""What a captured step runs through. Teachers and translation draw on the host: they have no ``host_work``."""
READS = {"item", "tolist", "cpu", "numpy"}


def waits(source: str) -> Iterator[str]:
    """Calls that make the host wait for the device, one line each."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = ast.unparse(node.func)
        keywords = {keyword.arg for keyword in node.keywords}
        if name in ("torch.tensor", "torch.as_tensor") and "device" in keywords:
            yield f"{node.lineno}: {name}(…, device=…) copies from ordinary memory"
        if node.func.attr in READS and not node.args:
            yield f"{node.lineno}: .{node.func.attr}() reads from the device"


def test_nothing_in_a_step_waits_for_the_device() -> None:
    files = [
        path
        for place in PLACES
        for path in ([PACKAGE / place] if place.endswith(".py") else (PACKAGE / place).rglob("*.py"))
    ]
    assert len(files) > 12
    found = [
        f"{path.relative_to(PACKAGE)}:{line}" for path in files for line in waits(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["x.item()", "x.cpu()", "x.sum().tolist()", "torch.tensor([1.0], device=x.device)"])
def test_that_test_can_fail(line: str) -> None:
    assert list(waits(line)) and not list(waits("torch.tensor([1.0])"))
