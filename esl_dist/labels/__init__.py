"""Classes and ids: what a network tells apart (class files) and what a label file holds (encodings)."""

from esl_dist.labels.classfile import Protocol
from esl_dist.labels.encodings import ENCODINGS, LEGAL_IDS, Encoding, encoding, id_map, legal_ids
from esl_dist.labels.protocols import IGNORE, PROTOCOLS, TRAIN_CLASSES, protocol

__all__ = [
    "ENCODINGS",
    "IGNORE",
    "LEGAL_IDS",
    "PROTOCOLS",
    "TRAIN_CLASSES",
    "Encoding",
    "Protocol",
    "encoding",
    "id_map",
    "legal_ids",
    "protocol",
]
