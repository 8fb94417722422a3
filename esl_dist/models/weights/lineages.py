"""Whose checkpoints there are, what their files cannot say themselves, and what a load reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esl_dist.models.deeplabv2 import CAFFE_MEAN
from esl_dist.models.normalisation import Normalisation

CAFFE = Normalisation("bgr", CAFFE_MEAN)
IMAGENET = Normalisation("bgr", (0.406 * 255, 0.456 * 255, 0.485 * 255), (0.225 * 255, 0.224 * 255, 0.229 * 255))


@dataclass(frozen=True)
class Lineage:
    """A public code base and the parts of its function that keys and shapes do not show."""

    name: str
    branches: int
    """ASPP branches that a head sums (its file stores four either way)."""
    single_head: str = "layer5"
    """What it calls the main head of a single-level network."""
    multi_level: bool = True
    """Whether it publishes networks of two heads (layer5 aux, layer6 main)."""
    output_order: tuple[str, ...] = ("aux", "main")
    """Order of its own forward's results; this package's is (main, aux) whatever was loaded."""
    normalisation: Normalisation = CAFFE


LINEAGES: Mapping[str, Lineage] = {
    lineage.name: lineage
    for lineage in (
        Lineage("esl_dist", 4, single_head="layer6", output_order=("main", "aux")),
        Lineage("advent", 4, single_head="layer6"),
        Lineage("adaptsegnet", 2),
        Lineage("bdl", 4, multi_level=False, output_order=("main",)),
        Lineage("maxsquare", 2, output_order=("main", "aux")),
        Lineage("crst", 4, multi_level=False, output_order=("main",), normalisation=IMAGENET),
        Lineage("resnet101", 0, output_order=()),
    )
}
LAYOUTS = ("auto", *(name for name in LINEAGES if name != "esl_dist"))
"""What ``model.layout`` takes; ``resnet101`` takes the backbone alone from any file. A file's being this package's own
is seen, not said.
"""


@dataclass(frozen=True)
class LoadReport:
    """What came out of a file and where it went."""

    file: str
    sha256: str
    """Of the file."""
    layout: str
    """Lineage: as asked for or as recognised."""
    loaded: int
    """Entries copied into the network."""
    dropped: tuple[str, ...] = ()
    """Keys of the file that the network has no place for."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Prefixes of the file and what they became."""
    missing: tuple[str, ...] = ()
    """Keys of the network that kept the value they had."""
    num_classes: int | None = None
    """Classes of the heads that were loaded; None where none was."""
    branches: int | None = None
    """ASPP branches that the loaded heads sum; None where none was loaded."""
    input_normalisation: Normalisation = CAFFE
    """What the network was trained on."""
    output_order: tuple[str, ...] = ()
    """Order in which the lineage's own forward returns its heads."""
    source_domain: int | None = None
    """Label of the source domain (discriminators)."""
    notes: tuple[str, ...] = ()
    """What could not be read off the file and was taken from the configuration."""

    def __str__(self) -> str:
        parts = [f"{self.file} (sha256 {self.sha256[:16]}): {self.layout} layout, {self.loaded} entries loaded"]
        if self.branches is not None:
            parts.append(f"{self.num_classes} classes, heads sum {self.branches} branches")
        if self.renamed:
            parts.append("renamed " + ", ".join(f"{old}* to {new}*" for old, new in self.renamed.items()))
        if self.dropped:
            parts.append(f"dropped {len(self.dropped)} ({_few(self.dropped)})")
        if self.missing:
            parts.append(f"left as they were {len(self.missing)} ({_few(self.missing)})")
        return "; ".join(parts)


def _few(keys: tuple[str, ...], shown: int = 2) -> str:
    return ", ".join(keys[:shown]) + (", ..." if len(keys) > shown else "")
