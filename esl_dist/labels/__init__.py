"""Classes and ids: protocols (what a network tells apart) and encodings (what a label file holds)."""

from esl_dist.labels.encodings import LEGAL_IDS, id_map
from esl_dist.labels.protocols import IGNORE, PROTOCOLS, TRAIN_CLASSES, Protocol, protocol

__all__ = ["IGNORE", "LEGAL_IDS", "PROTOCOLS", "TRAIN_CLASSES", "Protocol", "id_map", "protocol"]
