"""The rules of the house, read from the source: who may import whom, how long a file may be, what nobody may call."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "esl_dist"

# The modules that users start; each is three lines around ``entries/<name>.py``.
COMMANDS = (
    *(
        "train",
        "extract",
        "evaluate",
        "predict",
        "export",
        "translate",
        "tune",
        "report",
        "prepare",
        "streets",
        "doctor",
    ),
    "bench",
)

# A room is a package, a single file, or a few files that belong together. A file imports from lower layers or its own
# room.
LAYERS: tuple[dict[str, tuple[str, ...]], ...] = (
    {room: (room,) for room in ("config", "labels", "errors", "atomic", "colours", "compiled", "kernels")}
    | {"processes": ("processes", "launcher")},
    # What lies in a run's folder: names, records, lines of the log.
    {"runs": ("runs",)},
    {room: (room,) for room in ("data", "models", "losses", "distributed", "monitor", "tracking")},
    {room: (room,) for room in ("synthetic", "stages", "pseudo_labels", "metrics", "engine")},
    {"methods": ("methods", "labelling")},
    {"pipeline": ("pipeline", "alike")}
    | {room: (room,) for room in ("preparation", "evaluation", "reporting", "diagnostics")},
    # Many runs, started, read and drawn as each run's report is; and what times the step that the loop takes.
    {"studies": ("studies",), "benchmarks": ("benchmarks",), "prediction": ("prediction",)},
    {"entries": ("entries", "__main__", "data.__main__", *COMMANDS)},
)
MAX_LINES, MEDIAN_LINES, ENTRY_LINES = 400, 150, 80


def module_name(path: Path, package: Path = PACKAGE) -> str:
    """``esl_dist/engine/loop.py`` → ``engine.loop``; a package's ``__init__`` → the package; the root's → ``""``."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def place(module: str) -> tuple[int, str] | None:
    """(layer, room) of a module, by the longest prefix that a room lists; None where no room lists it."""
    best: tuple[int, int, str] | None = None
    for layer, rooms in enumerate(LAYERS):
        for room, prefixes in rooms.items():
            for prefix in prefixes:
                if (module == prefix or module.startswith(prefix + ".")) and (best is None or len(prefix) > best[0]):
                    best = (len(prefix), layer, room)
    return best[1:] if best else None


def imported(path: Path, package: Path = PACKAGE) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of the package in a file, also those inside functions and relative ones."""
    inside = ["esl_dist", *path.relative_to(package).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            # ``from esl_dist.engine import loop`` imports a module, ``from esl_dist.labels import protocol`` a name of
            # one.
            names = [
                f"{stem}.{alias.name}" if is_module(f"{stem}.{alias.name}", package) else stem for alias in node.names
            ]
        for name in names:
            if name.partition(".")[0] == "esl_dist":
                yield node.lineno, name.partition(".")[2]


def is_module(name: str, package: Path) -> bool:
    path = package.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def violations(path: Path, package: Path = PACKAGE) -> list[str]:
    """Imports of a file that go upward or sideways, one readable line each."""
    module = module_name(path, package)
    if not module:
        # ``esl_dist.load``, when it is first asked for; ``test_python.py`` holds the import of the package to nothing.
        names = [(line, name) for line, name in imported(path, package) if name != "prediction.model"]
        return [f"{path.name}:{line} the package's root imports {name}" for line, name in names]
    here = place(module)
    if here is None:
        return [f"{module} has no layer: give it one in LAYERS"]
    found = []
    for line, name in dict.fromkeys(imported(path, package)):
        there = place(name) if name else None
        if not name:
            continue  # the root package itself: a version, nothing else
        if there is None:
            found.append(f"{module}:{line} imports {name}, which has no layer")
        elif there != here and there[0] >= here[0]:
            found.append(
                f"{module}:{line} (layer {here[0]}, room {here[1]}) imports {name} (layer {there[0]}, room {there[1]})"
            )
    return found


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_no_import_goes_up_or_sideways() -> None:
    found = [line for path in sources() for line in violations(path)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("where", "line", "allowed"),
    [
        ("losses/made.py", "from esl_dist.models import DeepLabV2", False),  # sideways
        ("losses/made.py", "from esl_dist import models", False),
        ("losses/made.py", "from ..models import DeepLabV2", False),
        ("losses/made.py", "def f():\n    import esl_dist.engine.loop", False),  # upward, hidden in a function
        ("engine/made.py", "from esl_dist.methods import plan", False),  # engines know no method
        ("engine/loop.py", "from esl_dist.engine.update import Updater", True),
        ("losses/made.py", "from esl_dist.config.schema import Config", True),
        ("losses/made.py", "from .entropy import entropy_loss", True),
        ("elsewhere/made.py", "import torch", False),  # a room that nobody planned
    ],
)
def test_the_layer_test_can_fail(tmp_path: Path, where: str, line: str, allowed: bool) -> None:
    package = tmp_path / "esl_dist"
    for room in ("models", "engine", "losses", "config"):
        (package / room).mkdir(parents=True)
    (package / "engine" / "loop.py").touch()
    path = package / where
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    assert bool(violations(path, package)) is not allowed


def test_files_stay_small() -> None:
    def lines(path: Path) -> int:
        return len(path.read_text(encoding="utf-8").splitlines())

    everything = [
        *sources(),
        *(
            path
            for folder in ("tests", "launch", "docker")
            for path in (ROOT / folder).rglob("*")
            if path.suffix in {".py", ".sh"}
        ),
    ]
    long = {str(path.relative_to(ROOT)): lines(path) for path in everything if lines(path) > MAX_LINES}
    assert not long, f"over {MAX_LINES} lines: {long}"
    entries = {path.name: lines(path) for path in (PACKAGE / "entries").glob("*.py")}
    fat = {name: count for name, count in entries.items() if count > ENTRY_LINES}
    assert not fat, f"entries over {ENTRY_LINES} lines: {fat}"
    sizes = [lines(path) for path in sources() if path.name != "__init__.py"]
    assert statistics.median(sizes) <= MEDIAN_LINES


MOST_PARAMETERS = 8
KERNELS = ("kernels", "pseudo_labels.scores.kernel", "pseudo_labels.scores.compiled")
"""Device code takes pointers, strides and sizes one by one."""


def crowded(source: str) -> list[str]:
    """Functions with more parameters than a reader can hold, ``self`` aside; constructors of option objects may."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            found += [f"{node.lineno} {node.name} takes {count}"] if count > MOST_PARAMETERS else []
    return found


def test_no_function_takes_more_than_eight_parameters() -> None:
    found = [
        f"{module_name(path)}:{line}"
        for path in sources()
        if not any(module_name(path) == kernel or module_name(path).startswith(f"{kernel}.") for kernel in KERNELS)
        for line in crowded(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


def test_the_parameter_test_can_fail() -> None:
    assert crowded("def f(a, b, c, d, e, f, g, *, h, i): pass") and not crowded("def f(self, a): pass")


def calls(tree: ast.AST) -> Iterator[tuple[int, str, dict[str, object]]]:
    """(line, dotted name, constant keyword arguments) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {k.arg: k.value.value for k in node.keywords if k.arg and isinstance(k.value, ast.Constant)}
            yield node.lineno, ast.unparse(node.func), keywords


def unsafe(source: str) -> list[str]:
    """Calls that could execute what a file holds, and shells."""
    tree = ast.parse(source)
    found = []
    for line, name, keywords in calls(tree):
        if name == "torch.load" and keywords.get("weights_only") is not True:
            found.append(f"{line}: torch.load without weights_only=True")
        if name.endswith(".load") and keywords.get("allow_pickle") is True:
            found.append(f"{line}: {name}(allow_pickle=True)")
        if name in {
            "eval",
            "exec",
            "os.system",
            "yaml.load",
            "dist.broadcast_object_list",
            "dist.all_gather_object",
            "dist.gather_object",
        }:
            found.append(f"{line}: {name}")
        if keywords.get("shell") is True:
            found.append(f"{line}: {name}(shell=True)")
    for node in ast.walk(tree):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        found += [
            f"{node.lineno}: imports {name}"
            for name in names
            if name.partition(".")[0] in {"pickle", "cPickle", "dill", "marshal", "shelve"}
        ]
    return found


def test_nothing_read_from_a_file_is_executed() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in sources() for line in unsafe(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "import pickle",
        "subprocess.run(c, shell=True)",
    ],
)
def test_the_safety_test_can_fail(line: str) -> None:
    assert unsafe(line)


def test_stages_know_no_files_no_tracker_and_no_process_group() -> None:
    """A stage reads like the paper's algorithm box: DESIGN's "a stage knows no files, no tracker, no
    torch.distributed".
    """
    foreign = {"torch.distributed", "h5py", "mlflow", "esl_dist.tracking"}
    found = []
    for path in sorted((PACKAGE / "stages").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            found += [
                f"{path.name}:{node.lineno} imports {name}"
                for name in names
                if any(name == f or name.startswith(f + ".") for f in foreign)
            ]
    assert not found, "\n" + "\n".join(found)


# Files of a run's and a study's folder, and folders in them whose names are no words of another kind.
RUN_FILES = frozenset(
    [
        "config.yaml",
        "metrics.jsonl",
        "log.txt",
        "report.html",
        "mlflow.json",
        ".mlflow.lock",
        "mlflow.db",
        ".lock",
        "flight_recorder",
        "data_check",
        "stage.json",
        "done.json",
        "look.json",
        "thresholds.json",
        "labels.json",
        "selection.json",
        "selection.html",
        "pseudo_labels",
        "best.json",
        "trial.json",
        "study.yaml",
        "study.csv",
        "study.html",
        "made.json",
        "part.json",
        "shared.json",
        "given.yaml",
        "child.txt",
        "decision.json",
        "segmenter.pt",
    ]
)
# Words that are such a name only where they are joined to a path.
RUN_FOLDERS = ("labels", "weights", "spool", "trials", "shared", "twins", "profile", "pictures", "checkpoints")
# Rooms that have folders of their own called so: data sets, the scene painter, what is timed, what is predicted.
OTHER_FOLDERS = ("data", "synthetic", "benchmarks", "prediction")


def run_paths(source: str, module: str) -> list[str]:
    """Text in a file that names something in a run folder."""
    tree = ast.parse(source)
    joined = {id(n.right) for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        name = node.value.rpartition("/")[2]
        spelled = name in RUN_FILES and not (name == "pseudo_labels" and id(node) not in joined)
        below = id(node) in joined and name in RUN_FOLDERS and module.partition(".")[0] not in OTHER_FOLDERS
        if spelled or below or (id(node) in joined and name.startswith("metrics-")):
            found.append(f"{module}:{node.lineno} names {node.value!r}; take it from esl_dist.runs")
    return found


def test_nothing_outside_runs_names_a_file_of_a_run() -> None:
    found = []
    for path in sources():
        module = module_name(path)
        if module.partition(".")[0] != "runs":
            found += run_paths(path.read_text(encoding="utf-8"), module)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('run_dir / "metrics.jsonl"', True),
        ('(run / "pseudo_labels" / "selection.json")', True),
        ('FILE = "trial.json"', True),
        ('folder / "labels"', True),
        ('load_options("pseudo_labels", "labels")', False),
        ('"metrics.jsonl keeps everything"', False),
    ],
)
def test_the_test_of_names_can_fail(line: str, named: bool) -> None:
    assert bool(run_paths(line, "engine.made")) is named


def test_nothing_outside_models_knows_which_network_it_is() -> None:
    """Networks have names in ``models`` and in their options; elsewhere they are segmenters."""
    network = re.compile(
        r"(?<!model\.)deeplab|efficientnet|\blayer[56]\b|aspp|dinov2|daformer\.py|mixtransformer", re.IGNORECASE
    )
    found = []
    for path in sources():
        room = path.relative_to(PACKAGE).parts[0]
        if room in ("models", "config"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if network.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number} {line.strip()}")
    assert not found, "\n" + "\n".join(found)
