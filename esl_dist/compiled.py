"""Loops that numba compiles, where numba can be used. A module that holds some is loaded through here, by its name."""

from __future__ import annotations

import importlib
import logging
from functools import lru_cache
from types import ModuleType

log = logging.getLogger(__name__)


@lru_cache
def loops(module: str, cost: str) -> ModuleType | None:
    """The module, or None where numba cannot be used, said once with what that costs ("scores take five
    times longer").
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "numba":
            raise
        log.info("numba is not installed, so %s on CPU (pip install 'esl_dist[fast]')", cost)
    except RuntimeError as error:  # no folder for its cache that can be written to
        log.warning("numba cannot be used here (%s), so %s on CPU; set NUMBA_CACHE_DIR", error, cost)
    return None
