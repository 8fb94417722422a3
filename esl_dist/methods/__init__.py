"""Training methods: everything that is a method's own, one file or small folder each."""

from esl_dist.methods.plan import METHODS, label_title, plan, stages
from esl_dist.methods.stage import Role, Stage

__all__ = ["METHODS", "Role", "Stage", "label_title", "plan", "stages"]
