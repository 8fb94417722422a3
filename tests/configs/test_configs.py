"""The shipped experiments: complete headers, the published constants, and two steps of every stage on data of their own
format.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from esl_dist.config.load import configs_dir, flat, load_config
from esl_dist.config.schema import Config
from esl_dist.entries import train
from esl_dist.methods.plan import stages
from tests.configs import disks
from tests.configs.test_transformers import ALONE
from tests.configs.test_transformers import EXPERIMENTS as TRANSFORMERS

ESL_ROWS = ["align", "selftrain-ssl", "selftrain-esl"]
CROSSCITY_ROWS = ["source", "align-maxsquare", "align-iw_maxsquare"]

# Every row of the ESL paper's Tables 1, 2, 3 and 5, and of MaxSquare's, by the stage that makes it.
EXPERIMENTS = {
    "gta5_cityscapes/adaptsegnet": ESL_ROWS,
    "gta5_cityscapes/advent": ESL_ROWS,
    "gta5_cityscapes/advent_nu": ["align", "selftrain-esl"],
    "gta5_cityscapes/bdl_step1": ["align-it", "selftrain-ssl", "selftrain-esl", "selftrain-ssl-it", "selftrain-esl-it"],
    "gta5_cityscapes/bdl_step2": [
        "align-it",
        "selftrain-ssl-it",
        "align-it2",
        "selftrain-ssl",
        "selftrain-esl",
        "selftrain-ssl-it2",
        "selftrain-esl-it2",
    ],
    "gta5_cityscapes/maxsquare": CROSSCITY_ROWS,
    "gta5_cityscapes/maxsquare_multi": ["source", "align-iw_maxsquare"],
    "gta5_cityscapes/minent": ["source", "align-minent"],
    "synthia_cityscapes/adaptsegnet": ESL_ROWS,
    "synthia_cityscapes/advent": ESL_ROWS,
    "synthia_cityscapes/drsl": ESL_ROWS,
    "synthia_mapillary/advent": ESL_ROWS,
    **{f"cityscapes_{city}/maxsquare": CROSSCITY_ROWS for city in ("rome", "rio", "tokyo", "taipei")},
}
# Published by a claim in an abstract, not by a row for each stage.
CLAIMED = {"synthia_cityscapes/drsl": "at least 2.3 and 2.5 points over other methods"}
ONE_PER_PAIR = [
    "gta5_cityscapes/advent",
    "synthia_cityscapes/adaptsegnet",
    "synthia_mapillary/advent",
    "cityscapes_rome/maxsquare",
]
OTHERS = ["streets", "streets_bdl", "streets_teacher", "smoke", "camvid_day_to_dusk", "camvid_teacher"]


def path_of(name: str) -> Path:
    return configs_dir() / f"{name}.yaml"


def header(name: str) -> list[str]:
    lines = path_of(name).read_text(encoding="utf-8").splitlines()
    return [
        line.removeprefix("#").strip()
        for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    ]


def field(name: str, key: str) -> str:
    found = [line.partition(":")[2].strip() for line in header(name) if line.startswith(f"{key}:")]
    assert len(found) == 1, f"{name}: {len(found)} lines '# {key}: …'"
    return found[0]


def test_every_experiment_has_its_file_and_every_file_is_known() -> None:
    shipped = {
        p.relative_to(configs_dir()).with_suffix("").as_posix()
        for p in configs_dir().rglob("*.yaml")
        if not p.name.startswith("_")
    }
    pairs = {name for name in shipped if "/" in name and not name.startswith("sweeps/")}
    assert pairs == set(EXPERIMENTS) | {*TRANSFORMERS, ALONE}
    assert {name for name in shipped if "/" not in name} >= set(OTHERS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_header_is_complete(name: str) -> None:
    config = load_config(f"{name}.yaml")
    assert config.run.name == name.replace("/", "-")
    assert header(name)[0].endswith(".") and len(header(name)[0]) > 20
    assert field(name, "Command") == f"python -m esl_dist.train --config configs/{name}.yaml data.root=DATA"
    assert re.match(r"\d+", field(name, "GPUs"))
    number = r"\d+(\.\d+)?"
    assert re.fullmatch(rf"not yet measured|{number} .*", field(name, "Hours"))
    assert re.fullmatch(r"not yet measured|mIoU % .*", field(name, "Ours"))
    assert EXPERIMENTS[name] == [stage.name for stage in stages(config) if stage.scored]
    if name in CLAIMED:
        assert CLAIMED[name] in field(name, "Published")
        return
    published = re.findall(r"([a-z][a-z0-9_-]+) (\d\d\.\d)(?: \((\d\d\.\d)\))?(?:,|$)", field(name, "Published"))
    assert [stage for stage, *_ in published] == EXPERIMENTS[name]
    assert all(bool(star) == (config.data.classes == "16") for *_, star in published)


def test_rows_of_the_threshold_study_are_runs_of_their_own() -> None:
    rows = [
        line.removeprefix("Row:").split() for line in header("gta5_cityscapes/advent_nu") if line.startswith("Row:")
    ]
    runs = {}
    for score, *words in rows:
        assert re.fullmatch(r"\d\d\.\d", score)
        config = load_config("gta5_cityscapes/advent_nu.yaml", [word for word in words if "=" in word])
        runs[config.run.name] = config.pseudo_labels.nu
    assert len(runs) == len(rows) and sorted(runs.values()) == [0, 0.05, 0.1, 0.15, 0.2, 0.3]


ADVENT_LINEAGE = {
    "protocol": "code",
    "optim.batch": 1,
    "optim.lr": 2.5e-4,
    "optim.head_lr": 10,
    "optim.weight_decay": 5e-4,
    "optim.updates": "published",
    "optim.discriminator_lr": 1e-4,
    "optim.decay_steps": 250_000,
    "align.weight": 1e-3,
    "align.weight_aux": 2e-4,
    "selftrain.steps": 120_000,
    "selftrain.init": "initial",
    "pseudo_labels.nu": 0.1,
    "pseudo_labels.mu": 0.9,
    "pseudo_labels.window": 3000,
    "data.mirror": 0,
    "data.blur": 0,
}
TWO_BRANCHES = {
    "model.deeplabv2.aspp_branches": 2,
    "model.deeplabv2.multi_level": True,
    "align.objective": "adaptsegnet",
    "align.steps": 150_000,
}
ADVENT = {
    "model.deeplabv2.aspp_branches": 4,
    "model.deeplabv2.multi_level": True,
    "align.objective": "advent",
    "align.steps": 120_000,
}
MAXSQUARE = {
    "align.init": "source",
    "align.steps": 29_750,
    "optim.decay_steps": 0,
    "data.mirror": 0.5,
    "data.blur": 0.5,
    "model.deeplabv2.aspp_branches": 2,
    "eval.at": "crop",
    "align.iw_ratio": 0.2,
}
GTA5 = {"data.classes": "19", "data.source.size": [1280, 720], "eval.split": "val"}
SYNTHIA = {"data.source.size": [1280, 760], "data.source.labels": "GT/LABELS"}
SMALL = {
    "data.target.size": [1024, 512],
    "eval.input_size": [1024, 512],
    "extract.size": [1024, 512],
    "eval.at": "native",
}
VISTAS = {
    "data.target.size": [1024, 768],
    "eval.input_size": [1024, 768],
    "extract.size": [1024, 768],
    "data.target.fit": "pad",
    "data.classes": "7",
}
MULTI = {
    "align.weight": 0.09,
    "align.self_guidance": True,
    "align.guidance_threshold": 0.95,
    "align.guidance_weight": 0.1,
    "data.target.size": [1280, 640],
}
CYCLEGAN = {
    "lr": 2e-4,
    "load": 1024,
    "crop": 452,
    "blocks": 9,
    "width": 64,
    "discriminator_width": 64,
    "cycle": 10,
    "identity": 0.5,
    "history": 50,
}
BDL = {
    "model.deeplabv2.multi_level": False,
    "model.deeplabv2.aspp_branches": 4,
    "align.objective": "adaptsegnet",
    "align.steps": 80_000,
    "translate.steps": 20 * 24_966,
    "translate.hold": 0.5,
    "translate.perceptual": 0.1,
    "translate.perceptual_cycle": 10,
    **{f"translate.{key}": value for key, value in CYCLEGAN.items()},
}

CONSTANTS = {
    "gta5_cityscapes/adaptsegnet": ADVENT_LINEAGE | TWO_BRANCHES | GTA5 | SMALL,
    "gta5_cityscapes/advent": ADVENT_LINEAGE | ADVENT | GTA5 | SMALL,
    "gta5_cityscapes/advent_nu": ADVENT_LINEAGE | ADVENT | GTA5 | SMALL,
    "gta5_cityscapes/bdl_step1": ADVENT_LINEAGE | GTA5 | SMALL | BDL,
    "gta5_cityscapes/bdl_step2": ADVENT_LINEAGE | GTA5 | SMALL | BDL,
    "gta5_cityscapes/maxsquare": MAXSQUARE | GTA5 | {"align.weight": 0.1, "data.source.split": "train"},
    "gta5_cityscapes/maxsquare_multi": MAXSQUARE | GTA5 | MULTI,
    "gta5_cityscapes/minent": MAXSQUARE | GTA5,
    "synthia_cityscapes/adaptsegnet": ADVENT_LINEAGE | TWO_BRANCHES | SYNTHIA | SMALL | {"data.classes": "16"},
    "synthia_cityscapes/advent": ADVENT_LINEAGE | ADVENT | SYNTHIA | SMALL | {"data.classes": "16"},
    "synthia_cityscapes/drsl": (
        ADVENT_LINEAGE
        | ADVENT
        | SYNTHIA
        | SMALL
        | {
            "data.classes": "16",
            "mmdl.weight": 0.1,
            "mmdl.align_weight": 1.0,
        }
    ),
    "synthia_mapillary/advent": ADVENT_LINEAGE | ADVENT | SYNTHIA | VISTAS,
    **{
        f"cityscapes_{city}/maxsquare": (
            MAXSQUARE
            | {
                "align.weight": 0.1,
                "data.classes": "crosscity13",
                "data.target.labels": city.title(),
                "eval.split": "test",
            }
        )
        for city in ("rome", "rio", "tokyo", "taipei")
    },
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_constants_are_the_published_ones(name: str) -> None:
    options = flat(load_config(f"{name}.yaml"))
    found = {key: list(options[key]) if isinstance(options[key], tuple) else options[key] for key in CONSTANTS[name]}
    assert found == CONSTANTS[name]


@pytest.fixture(scope="module")
def disk_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = disks.everything(tmp_path_factory.mktemp("disk"))
    disks.initial_weights(root / "resnet101.pth")
    return root


def shrunk(config: Config, root: Path, run: Path) -> list[str]:
    """Two steps per stage, a tiny network and tiny crops; method, stages, layouts, protocol and fit stay the file's
    own.
    """
    source, target = "[64,32]", "[64,48]" if config.data.target.fit == "pad" else "[64,32]"
    words = [
        f"data.root={root}",
        f"run.dir={run}",
        *(
            f"{stage}.steps=2"
            for stage in ("initial", "source", "translate", "align", "selftrain", "teacher", "oracle")
        ),
        *(
            "translate.load=64",
            "translate.crop=32",
            "translate.blocks=1",
            "translate.width=4",
            "translate.discriminator_width=4",
        ),
        "teacher.crop.rare_pixels=1",
        "model.efficientnet.init=kaiming",
        "model.efficientnet.decoder=16",
        f"model.deeplabv2.width={disks.WIDTH}",
        f"model.deeplabv2.layers={list(disks.LAYERS)}",
        "model.discriminator_width=4",
        f"data.source.size={source}",
        f"data.target.size={target}",
        f"extract.size={target}",
        f"eval.input_size={target}",
        "data.workers=0",
        "run.threads=1",
        "run.device=cpu",
        "tracking.mlflow=false",
    ]
    if config.model.checkpoint:
        words.append(f"model.checkpoint={root / 'resnet101.pth'}")
    if config.data.streets.make:
        words += [
            f"data.root={run / 'pair'}",
            "data.streets.size=[64,32]",
            *(f"data.streets.{part}=4" for part in ("source_train", "target_train", "target_val", "target_test")),
        ]
    return words


def dry_run(name: str, root: Path, run: Path, *more: str) -> Config:
    """Run a configuration in a few steps and check what every stage left."""
    shipped = load_config(f"{name}.yaml")
    words = [*shrunk(shipped, root, run), *more]
    assert train.main(["--config", f"{name}.yaml", *words]) == 0
    config = load_config(f"{name}.yaml", words)
    for stage in stages(config):
        assert json.loads((run / stage.name / "done.json").read_text())["step"] == 2
        if config.eval.split and stage.scored:
            metrics = json.loads((run / stage.name / f"metrics-{config.eval.bn_statistics[0]}.json").read_text())
            assert metrics["classes"] == f"{len(metrics['iou'])}-class network" and metrics["at"] == config.eval.at
            assert ("miou_star" in metrics) == (config.data.classes == "16")
        if stage.labels:
            assert (run / "pseudo_labels" / stage.labels / "thresholds.json").is_file()
    return config


@pytest.mark.parametrize("name", ONE_PER_PAIR)
def test_two_steps_of_one_experiment_per_pair(name: str, disk_root: Path, tmp_path: Path) -> None:
    dry_run(name, disk_root, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(name for name in EXPERIMENTS if name not in ONE_PER_PAIR), *OTHERS])
def test_two_steps_of_every_other_file(name: str, disk_root: Path, tmp_path: Path) -> None:
    dry_run(name, disk_root, tmp_path)


def test_padding_gets_no_pseudo_label(disk_root: Path, tmp_path: Path) -> None:
    """Vistas' images of three shapes: labels are as large as the image on the canvas, and thresholds count no pixel
    beside it.
    """
    dry_run("synthia_mapillary/advent", disk_root, tmp_path)
    sizes = {}
    for path in sorted((tmp_path / "pseudo_labels/esl/labels").glob("*.png")):
        with Image.open(path) as label:
            sizes[path.stem] = label.size
    assert sizes == {
        "pic0": (64, 48),
        "pic1": (64, 32),
        "pic2": (24, 48),
    }  # 4:3, 16:9 and 9:16 on a canvas of 64x48, in steps of 8
    thresholds = json.loads((tmp_path / "pseudo_labels/esl/thresholds.json").read_text())
    assert thresholds["pixels"] == sum(width * height for width, height in sizes.values())


@pytest.mark.slow
def test_rows_of_the_threshold_study_share_a_teacher(disk_root: Path, tmp_path: Path) -> None:
    """As the file's header promises: a copied teacher is taken as it is."""
    dry_run("gta5_cityscapes/advent", disk_root, tmp_path / "advent")
    shutil.copytree(tmp_path / "advent/align", tmp_path / "row/align")
    dry_run("gta5_cityscapes/advent_nu", disk_root, tmp_path / "row")
    events = [json.loads(line) for line in (tmp_path / "row/metrics.jsonl").read_text().splitlines()]
    assert [e["status"] for e in events if e["event"] == "stage" and e["stage"] == "align"] == ["skipped"]


@pytest.mark.slow
def test_a_source_model_serves_several_files(disk_root: Path, tmp_path: Path) -> None:
    """As ``_maxsquare.yaml`` promises: MinEnt from another file's source model is MinEnt from its own."""
    dry_run("gta5_cityscapes/maxsquare", disk_root, tmp_path / "first")
    dry_run("gta5_cityscapes/minent", disk_root, tmp_path / "own")
    weights = tmp_path / "first/source/checkpoints/step_00000002/segmenter.pt"
    words = ["run.stages=[align:minent]", "align.init=initial", "model.layout=auto", f"model.checkpoint={weights}"]
    dry_run("gta5_cityscapes/minent", disk_root, tmp_path / "given", *words)
    digests = [
        json.loads((tmp_path / run / "align-minent/done.json").read_text())["weights_sha256"]
        for run in ("own", "given")
    ]
    assert digests[0] == digests[1]
