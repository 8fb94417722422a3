"""No step waits for the device: nothing in losses, passes and steps copies from or to ordinary memory."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent.parent / "esl_dist"
ROOMS = ("losses", "kernels", "methods/adaptation", "methods/teacher", "models")
FILES = (
    *("methods/passes.py", "methods/supervised.py", "methods/draws.py", "data/pixels.py", "data/prefetch.py"),
    *(f"distributed/{name}.py" for name in ("lanes", "ddp", "batch_norm", "capture", "collectives")),
    *(f"engine/{name}.py" for name in ("device_step", "update", "ema", "values", "optim", "adamw", "published_sgd")),
    "engine/step.py",
)
"""What a step runs through, captured or not, what is drawn for it beforehand included. Translation has no
``host_work``.
"""
READS = {"item", "tolist", "cpu", "numpy"}
MADE = ("torch.tensor", "torch.as_tensor", "torch.from_numpy")
FILLED = ("arange", "zeros", "ones", "full", "empty", "eye", "linspace", "rand", "randn", "randint")
"""Of torch: without a device they lie in ordinary memory, from which ``.to`` copies."""
ALLOWED = {
    "engine/update.py": {"read", "mean_losses"},  # a verdict whose event has passed; what is logged
    "kernels/losses.py": {"_across", "_down"},  # tables, made once per size
    "losses/upsampling.py": {"_weights"},
    "models/normalisation.py": {"_constant"},  # made once per device
    "methods/teacher/step.py": {"recall"},  # when a stage goes on
    "models/soma.py": {"split_matrix"},  # when the network is made
    "distributed/collectives.py": {"all_max", "all_sum", "broadcast_json"},  # between steps
}

READ_BEFORE = PACKAGE / "models" / "weights"
"""Files, read before the first step."""


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
        elif node.func.attr in ("to", "cuda") and made.removeprefix("torch.") in FILLED and _is_moved(node):
            yield f"{node.lineno}: {made} is filled in ordinary memory and copied; let it be filled on the device"
        if node.func.attr in READS and not node.args:
            yield f"{node.lineno}: .{node.func.attr}() reads from the device"


def _is_moved(call: ast.Call) -> bool:
    """Whether what a call of ``torch`` filled goes to another device by ``call``, which may change its type alone."""
    assert isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call)
    filled_there = any(keyword.arg == "device" for keyword in call.func.value.keywords)
    given = [ast.unparse(argument) for argument in (*call.args, *(keyword.value for keyword in call.keywords))]
    return not filled_there and (call.func.attr == "cuda" or any("device" in word for word in given))


def files_of_a_step() -> list[Path]:
    found = [*(path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")), *(PACKAGE / name for name in FILES)]
    return [path for path in found if READ_BEFORE not in path.parents]


def test_nothing_in_a_step_waits_for_the_device() -> None:
    files = files_of_a_step()
    assert len(files) > 70
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
        *("torch.arange(4).to(device)", "torch.zeros(3).to(x.device, non_blocking=True)"),
    ],
)
def test_that_test_can_fail(line: str) -> None:
    assert list(waits(line)) and not list(waits("torch.tensor([1.0])"))
    assert not list(waits("torch.arange(4, device=device).to(torch.float64)"))
    assert list(waits(f"def f():\n  {line}", {"g"})) and not list(waits(f"def f():\n  {line}", {"f"}))


def test_what_a_graph_has_read_stays_where_it_is() -> None:
    """A captured step knows the addresses of the tables that its kernels read: no bounded cache may let go of one."""
    bounded = []
    for path in files_of_a_step():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and "device" in {argument.arg for argument in node.args.args}:
                cached = [ast.unparse(decorator) for decorator in node.decorator_list]
                bounded += [f"{path.name}: {node.name}" for word in cached if "lru_cache" in word]
    assert not bounded


def test_tables_are_kept() -> None:
    from esl_dist.losses.upsampling import _weights
    from esl_dist.models.resize import _matrix

    for table in (_weights, _matrix):
        assert table.cache_parameters()["maxsize"] is None
