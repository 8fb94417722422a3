"""The embedded pair: procedural streets in two looks, written as GTA5 (source) and Cityscapes (target) folders."""

from esl_dist.synthetic.streets.write import ensure_pair

__all__ = ["ensure_pair"]
