"""No step waits for the device: nothing in losses, passes and steps copies from or to ordinary memory."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent.parent / "esl_dist"
ROOMS = ("losses", "kernels", "methods/adaptation", "methods/teacher")
FILES = (
    *("methods/passes.py", "methods/supervised.py", "methods/draws.py", "data/pixels.py", "distributed/lanes.py"),
    *(f"engine/{name}.py" for name in ("device_step", "update", "ema", "values", "optim", "adamw", "published_sgd")),
)
"""What a step runs through, captured or not, what is drawn for it beforehand included. Translation has no
``host_work``.
"""
READS = {"item", "tolist", "cpu", "numpy"}
MADE = ("torch.tensor", "torch.as_tensor", "torch.from_numpy")
ALLOWED = {
    "engine/update.py": {"read", "mean_losses"},  # a verdict whose event has passed; what is logged
    "kernels/losses.py": {"_across", "_down"},  # tables, made once per size
}


def nodes(tree: ast.AST, without: Collection[str]) -> Iterator[ast.AST]:
    """All of them but those inside functions of these names."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.FunctionDef) and node.name in without):
            yield node
            yield from nodes(node, without)


def waits(source: str, without: Collection[str] = ()) -> Iterator[str]:
    """Calls that make the host wait for the device, one line each; ``without`` those of functions of these names."""
    for node in nodes(ast.parse(source), without):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = ast.unparse(node.func)
        keywords = {keyword.arg for keyword in node.keywords}
        made = ast.unparse(node.func.value.func) if isinstance(node.func.value, ast.Call) else ""
        if (name in MADE and "device" in keywords) or (node.func.attr in ("to", "cuda") and made in MADE):
            yield f"{node.lineno}: {name} copies from ordinary memory; data.prefetch.sent does not"
        if node.func.attr in READS and not node.args:
            yield f"{node.lineno}: .{node.func.attr}() reads from the device"


def test_nothing_in_a_step_waits_for_the_device() -> None:
    files = [*(path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")), *(PACKAGE / name for name in FILES)]
    assert len(files) > 40
    found = []
    for path in files:
        name = path.relative_to(PACKAGE).as_posix()
        found += [f"{name}:{line}" for line in waits(path.read_text(encoding="utf-8"), ALLOWED.get(name, ()))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        *("x.item()", "x.cpu()", "x.sum().tolist()", "torch.tensor([1.0], device=x.device)"),
        *("torch.tensor([1]).to(device)", "torch.from_numpy(keys).to(x.device, non_blocking=True)"),
    ],
)
def test_that_test_can_fail(line: str) -> None:
    assert list(waits(line)) and not list(waits("torch.tensor([1.0])"))
    assert list(waits(f"def f():\n  {line}", {"g"})) and not list(waits(f"def f():\n  {line}", {"f"}))
