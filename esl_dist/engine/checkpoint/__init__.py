"""Checkpoints of a stage: written aside and hashed, newest valid first, from a thread. See ``folder`` for
the format.
"""

from esl_dist.engine.checkpoint.folder import file_sha256, load, newest_valid, resume, save, verify, weights_sha256
from esl_dist.engine.checkpoint.retention import best, mark_best
from esl_dist.engine.checkpoint.writer import Writer

__all__ = [
    "Writer",
    "best",
    "file_sha256",
    "load",
    "mark_best",
    "newest_valid",
    "resume",
    "save",
    "verify",
    "weights_sha256",
]
