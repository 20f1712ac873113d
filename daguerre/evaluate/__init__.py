"""Evaluation: bounds where there is a density, two-sample measures for all that can be drawn."""

from daguerre.evaluate.bounds import evidence_bound
from daguerre.evaluate.evaluation import evaluate
from daguerre.evaluate.scores import Estimate, Score, Scores
from daguerre.evaluate.subject import Measure, Subject
from daguerre.evaluate.two_sample import classifier_accuracy, mmd2

__all__ = [
    "Estimate",
    "Measure",
    "Score",
    "Scores",
    "Subject",
    "classifier_accuracy",
    "evaluate",
    "evidence_bound",
    "mmd2",
]
