"""What lies in a run folder and in a study's: the only place that knows their files, their records and their log's
lines.

``folders`` and ``studies`` name the files, ``records`` reads and writes the JSON ones, ``events`` and ``lines`` are
``metrics.jsonl``.
"""

from esl_dist.runs.checkpoints import CheckpointFolder, CheckpointsFolder
from esl_dist.runs.folders import LabelSetFolder, LabelsFolder, RunFolder, StageFolder, TeacherFolder
from esl_dist.runs.records import Damaged, Record
from esl_dist.runs.studies import PartFolder, StudyFolder, TrialFolder

__all__ = [
    "CheckpointFolder",
    "CheckpointsFolder",
    "Damaged",
    "LabelSetFolder",
    "LabelsFolder",
    "PartFolder",
    "Record",
    "RunFolder",
    "StageFolder",
    "StudyFolder",
    "TeacherFolder",
    "TrialFolder",
]
