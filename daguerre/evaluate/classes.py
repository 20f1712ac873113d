"""Do samples look like one class each, and like all classes together? By a classifier's word."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from daguerre.evaluate.features import Features, apply
from daguerre.evaluate.jackknife import jackknife
from daguerre.evaluate.scores import Score
from daguerre.evaluate.subject import Subject

__all__ = ["ClassScore", "class_score"]


def class_score(logits: Tensor) -> Tensor:
    r"""Return $\exp \mathbb{E}_x \mathrm{KL}(p(y \mid x) \Vert p(y))$, from 1 to the classes.

    Probabilities are kept as logarithms, so that logits of any size are taken.

    Args:
        logits: `[N, classes]`.

    References:
        Salimans et al. (2016), *Improved techniques for training GANs*, arXiv 1606.03498: the
        Inception score, where the classifier is that net.

    Example:
        >>> round(class_score(1000 * torch.eye(3)).item(), 4)  # sure of each, and all alike
        3.0
    """
    each = logits.double().log_softmax(1)
    whole = each.logsumexp(0) - math.log(len(each))
    terms = torch.where(each.exp() > 0, each.exp() * (each - whole), 0.0)
    return terms.sum(1).mean().exp()


@dataclass(frozen=True)
class ClassScore:
    """The Inception score with a classifier of the user's data, beside that of the data itself.

    It sees neither what a class lacks nor what is copied: quote it with others.

    Attributes:
        classifier: Maps rows `[n, *event]` to logits `[n, classes]`, such as `train_classifier`
            returns.

    References:
        Salimans et al. (2016, arXiv 1606.03498). Barratt and Sharma (2018), *A note on the
        Inception score*, arXiv 1801.01973, for what it does not tell.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(x=Normal(torch.zeros(2), 1.0))
        >>> score = ClassScore(lambda x: 9 * x)
        >>> scores = dg.evaluate(p, data=torch.randn(100, 2), measures=[score])
        >>> 1 < scores["class score"].value < 2
        True
    """

    classifier: Features

    def __call__(self, of: Subject) -> Score:
        """Judge as many draws as rows."""
        found = jackknife(class_score, apply(self.classifier, of.rows(of.drawn)))
        own = class_score(apply(self.classifier, of.rows(of.observed)))
        note = f"exp of nats; {own:.2f} for the data itself"
        return Score("class score", found.value.item(), found.stderr.item(), note)
