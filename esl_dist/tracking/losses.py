"""What the losses of a log are called and what they mean, for ``train --explain`` and the report's curves."""

from __future__ import annotations

import re

_MEANING = {
    "source": ("Cross-entropy on the source", "cross-entropy of the source images against their labels"),
    "target": ("Cross-entropy on pseudo-labels", "cross-entropy of the target images against their pseudo-labels"),
    "adv": (
        "Adversarial loss of the segmenter",
        "how clearly the discriminator tells the target's output from the source's; ln 2 = 0.69 (0.25 with least"
        " squares) where it cannot, higher where it wins",
    ),
    "entropy": ("Entropy on the target", "mean entropy of the target's predictions, 0-1; falls as they get surer"),
    "maxsquare": ("Maximum squares", "minus half the mean squared probability on the target; falls as they get surer"),
    "iw_maxsquare": ("Maximum squares, image-weighted", "maximum squares in which rare classes of an image weigh more"),
    "mix": ("Cross-entropy on mixed images", "source and target pasted together, the target's part by the teacher"),
    "mask": (
        "Cross-entropy on masked images",
        "target images with patches missing, labelled by the teacher who saw all",
    ),
    "feature_distance": (
        "Feature distance",
        "how far the features of things have moved from those of the encoder's first weights (DAFormer)",
    ),
    "distil": ("Distance from the frozen encoder", "how far features have moved from a frozen foundation model's"),
    "cycle": ("Cycle consistency", "image, translated and back, against itself, L1"),
    "identity": ("Identity", "image of a domain, translated into that domain, against itself, L1"),
    "perceptual": ("Perceptual loss", "what the segmenter sees before and after translation"),
    "mmdl": ("Metric loss of the modes", "distances of sampled pixels to the modes of their own class and of others"),
}
_DISCRIMINATOR = (
    "Discriminator",
    "ln 2 = 0.69 (0.25 with least squares) where it cannot tell the domains apart, 0 where it has won and teaches"
    " nothing",
)
_PARTS = {
    "aux": ("aux head", "on the auxiliary head, one stage earlier"),
    "detail": ("detail crop", "on HRDA's detail crop alone"),
    "hinge": ("hinge", "the part beyond the margin"),
}


def title(name: str) -> str:
    """``d_aux_target`` → ``Discriminator, target, aux head``; a loss of the user's own by its own name."""
    found = _taken_apart(name)
    if found is None:
        return name.replace("_", " ")
    (called, _), details, _ = found
    return ", ".join([called, *details])


def explained(name: str) -> str:
    """One line on what a loss says; empty for one of the user's own."""
    found = _taken_apart(name)
    if found is None:
        return ""
    (called, meaning), details, more = found
    return f"{', '.join([called, *details])}: {meaning}{''.join(f'; {text}' for text in more)}"


def _taken_apart(name: str) -> tuple[tuple[str, str], list[str], list[str]] | None:
    """(title, meaning), what a title says of domain and head, and what an explanation adds."""
    if found := re.fullmatch(r"d_(?:(main|aux)_)?(source|target)", name):
        head, domain = found[1] or "main", found[2]
        parts = [_PARTS[head]] if head in _PARTS else []
        return _DISCRIMINATOR, [domain, *(part[0] for part in parts)], [part[1] for part in parts]
    if name in _MEANING:
        return _MEANING[name], [], []
    if found := re.fullmatch(
        rf"({'|'.join(_MEANING)})_(main|aux|detail|source|target|source_hinge|target_hinge)", name
    ):
        domain, _, part = found[2].rpartition("_")
        details = [domain] if domain else [part] if part in ("source", "target") else []
        parts = [_PARTS[part]] if part in _PARTS else []
        return _MEANING[found[1]], [*details, *(text for text, _ in parts)], [text for _, text in parts]
    return None
