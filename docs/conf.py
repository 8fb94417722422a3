"""Sphinx: ``python -m sphinx -W docs OUT`` (extra ``docs``). Pages are Markdown; nothing is fetched, ever."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from esl_dist import __version__

project = "esl_dist"
author = "the esl_dist maintainers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures have them
html_theme = "furo"
html_title = "esl_dist"
html_copy_source = False
html_show_copyright = False
html_theme_options = {"sidebar_hide_name": False}
