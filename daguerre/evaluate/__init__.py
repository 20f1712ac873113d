"""Evaluation: bounds where there is a density, two-sample measures for all that can be drawn."""

from daguerre.evaluate.bounds import Estimate, evidence_bound
from daguerre.evaluate.scores import Score, Scores, evaluate
from daguerre.evaluate.two_sample import classifier_accuracy, mmd2

__all__ = [
    "Estimate",
    "Score",
    "Scores",
    "classifier_accuracy",
    "evaluate",
    "evidence_bound",
    "mmd2",
]
