"""Options of alignment: the objective, its weights and the terms added to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from esl_dist.config.bounds import NonNegativeFloat, PositiveInt, Share
from esl_dist.config.check import require

ADVERSARIAL = ("adaptsegnet", "advent")
TERMS = (*ADVERSARIAL, "minent", "maxsquare", "iw_maxsquare")
OBJECTIVES = ("none", "bn", *TERMS)


@dataclass(frozen=True)
class TermConfig:
    """One weighted summand of the alignment loss."""

    objective: str = ""
    """adaptsegnet, advent, minent, maxsquare, iw_maxsquare, or ``package.module:function``."""
    weight: NonNegativeFloat = 0.0
    """Its weight on the main head (of a user's own function: on what it returns)."""
    weight_aux: NonNegativeFloat = 0.0
    """Its weight on the aux head."""

    @property
    def adversarial(self) -> bool:
        """Whether it trains discriminators."""
        return self.objective in ADVERSARIAL


@dataclass(frozen=True)
class AlignConfig:
    """Adversarial or entropy alignment: source cross-entropy plus a loss on unlabelled target images."""

    objective: str = "advent"
    """none, bn (target batches through batch norm, no loss: the control), adaptsegnet, advent, minent, maxsquare,
    iw_maxsquare, or ``package.module:function``.
    """
    steps: PositiveInt = 120_000
    """Optimiser steps."""
    init: Literal["initial", "source"] = "initial"
    """Weights to start from."""
    gan: Literal["bce", "ls"] = "bce"
    """Discriminator loss: binary cross-entropy or least squares."""
    weight: NonNegativeFloat = 1e-3
    """Weight of the objective on the main head (published: 1e-3, LS-GAN 0.01, MaxSquare 0.1)."""
    weight_aux: NonNegativeFloat = 2e-4
    """Weight of the objective on the aux head (published: 2e-4, MaxSquare 0)."""
    also: list[TermConfig] = field(default_factory=list)
    """Further terms of the loss, added to ``objective`` wherever it is used: ``[{objective: maxsquare,
    weight: 0.1}]``.
    """
    source_aux: NonNegativeFloat = 0.1
    """Weight of the source cross-entropy on the aux head (main: 1)."""
    iw_ratio: Share = 0.2
    """Exponent alpha of the image-wise class weights of ``iw_maxsquare``."""
    self_guidance: bool = False
    """MaxSquare's Multi, beside any objective: the aux head learns confident averaged predictions."""
    guidance_threshold: Share = 0.95
    """Probability above which a pixel guides."""
    guidance_weight: NonNegativeFloat = 0.1
    """Weight of guidance relative to ``weight``."""

    def __post_init__(self) -> None:
        known = self.objective in OBJECTIVES or self.objective.count(":") == 1
        require(
            known,
            "align.objective",
            f"unknown {self.objective!r}; one of {', '.join(OBJECTIVES)} or package.module:function",
        )
        self._check_terms()

    def _check_terms(self) -> None:
        if not self.also:
            return
        require(
            self.objective not in ("none", "bn"),
            "align.also",
            f"adds terms to a loss, but align.objective={self.objective} has none; make the first term the objective",
        )
        for term in self.also:
            known = term.objective in TERMS or term.objective.count(":") == 1
            require(
                known,
                "align.also",
                f"unknown objective {term.objective!r}; one of {', '.join(TERMS)} or package.module:function",
            )
            require(
                term.weight > 0 or term.weight_aux > 0,
                "align.also",
                f"{term.objective} needs a weight above 0",
            )
        # By the name that a term's loss is logged under.
        names = [name.rpartition(":")[2] for name in (self.objective, *(term.objective for term in self.also))]
        require(
            len(set(names)) == len(names), "align.also", f"a term comes twice in {', '.join(names)}; give it one weight"
        )
        require(
            len(set(ADVERSARIAL) & set(names)) < 2,
            "align.also",
            "adaptsegnet and advent differ only in what one discriminator sees; choose one of them",
        )
