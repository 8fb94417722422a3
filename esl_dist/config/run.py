"""Options of a run: its name, its stages, what it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from esl_dist.config.bounds import NonNegativeInt, PositiveInt, Seed
from esl_dist.config.check import require, require_folder_name
from esl_dist.config.entries import parse
from esl_dist.config.scoring import Precision


@dataclass(frozen=True)
class RunConfig:
    """Where a run lives and what it runs on."""

    name: str = "run"
    """Names the run folder ``runs/<name>`` and the MLflow run."""
    dir: str = ""
    """The run folder itself; empty means ``runs/<name>``."""
    stages: tuple[str, ...] = ("source", "align", "selftrain")
    """Stages in order, each ``name`` or ``name:variant`` (``align:minent``, ``selftrain:ssl``); a variant overrides
    ``align.objective`` or ``pseudo_labels.rule``. ``+it`` after it takes source images as ``translate`` rewrote them,
    ``+it2`` as ``translate:2`` did."""
    adopted: tuple[str, ...] = ()
    """Entries of ``stages`` whose finished folders were put into the run folder (by a study): taken as they are,
    whatever options made them.
    """
    seed: Seed = 1
    """Seed of weights, data order and augmentation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` takes CUDA where there is one and says so."""
    precision: Precision = "auto"
    """Arithmetic of forward and backward; ``auto`` is bf16 on CUDA and fp32 on CPU. Softmax, entropy and losses stay
    float32.
    """
    threads: NonNegativeInt = 0
    """CPU threads of a rank while training; 0 shares the cores among the ranks of this machine."""
    inference_threads: PositiveInt = 1
    """CPU threads of a rank in extraction and evaluation: a fixed number, because the bits of a convolution depend on
    it.
    """
    log_every: PositiveInt = 20
    """Optimiser steps between two log lines; losses are read from the device only then."""
    deterministic: bool = True
    """Deterministic kernels: a resumed run equals an uninterrupted one bit for bit."""
    compile: bool = False
    """Compile the networks with torch.compile: a slower first step, then fused kernels; needs a C++ compiler on a CPU,
    Triton on a GPU, where the gradients of a compiled transformer's attention have no fixed order.
    """
    compile_blocks: bool = False
    """Compile the blocks that a network is built of, each kind once for all of its kind, in place of whole networks; in
    a deterministic run with torch's deterministic choices. The kernel norm (``run.kernels``) has no part in a compiled
    block. Not yet measured.
    """
    capture: Literal["auto", "on", "off"] = "auto"
    """Training steps as CUDA graphs, where the device takes a step alone, and forwards of extraction and evaluation.
    ``auto``: what a GPU has shown; ``on`` also several ranks, teachers, DRSL's head and networks that draw, not yet
    measured. The first captured step is compared with the eager one either way.
    """
    kernels: tuple[Literal["auto", "norm", "heads", "losses"], ...] = ("auto",)
    """Kernels of this package in place of chains of torch's, on CUDA: norm (batch norm, residual and ReLU), heads (the
    pyramid's sum of taps), losses (upsampling, softmax and cross-entropy). They need Triton and round differently.
    ``auto``: all of them in steps that are captured, where Triton is; they cost an eager step more than they save.
    """
    overlap: bool = False
    """On a GPU, the source and the target pass of alignment and self-training on two streams; gradients and running
    statistics in the order of the serial step, so with its bits; several ranks all-reduce after both, not beside the
    second. Worth something in captured steps alone, where the host does not launch one after the other. Not yet
    measured.
    """
    join_discriminators: bool = False
    """On one rank, the discriminators of both heads in one pass, as groups of one convolution: the same sums in another
    order. Not yet measured.
    """
    timeout_s: PositiveInt = 100
    """Seconds that a collective may take after the first step (300 before it)."""

    def __post_init__(self) -> None:
        require_folder_name(self.name, "run.name")
        require(len(self.stages) > 0, "run.stages", "is empty: name at least one stage, such as source")
        for word in self.stages:
            parse(word)
        require(len(set(self.stages)) == len(self.stages), "run.stages", "names a stage twice")
        require(
            not (self.compile and self.compile_blocks),
            "run.compile_blocks",
            "run.compile compiles the whole networks already; set one of the two",
        )
        require(set(self.adopted) <= set(self.stages), "run.adopted", "names a stage that run.stages has not")
