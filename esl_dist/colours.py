"""Colours and dashes of lines, chosen so that everybody can tell them apart."""

from __future__ import annotations

COLOURS = ("#249cd8", "#e47800", "#b42490", "#849c60", "#6c54d8", "#c02418", "#905460")
"""Found by search: at least 25 apart in CIE Lab for normal sight, protanopia, deuteranopia and tritanopia (Machado,
Oliveira and Fernandes 2009), with a contrast of 3 on the light page and on the dark one. A test computes it again.
"""
DASHES = ("", "7 3", "3 2.5", "9 3 2 3", "5 1.5", "14 4", "8 2 2 2 2 2")
"""Of the same lines, for print in black; more ink than gaps, so that a thin line keeps its colour on a dark page."""
