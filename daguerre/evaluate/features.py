"""What samples are compared by: features of rows, by default their values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from daguerre.evaluate.subject import Subject, seeded

__all__ = ["Classifier", "Features", "apply", "featured", "prefix", "train_classifier"]

Features = Callable[[Tensor], Tensor]
"""Maps rows `[n, *event]` of the observed variable to features `[n, d]`."""

ROWS = 1024  # in one call of the features
WIDE = 1024  # values of a row that are compared as they are
HIDDEN, STEPS, BATCH, RATE = (256, 64), 600, 128, 2e-3


class Classifier(nn.Module):
    """A small net that tells the classes of a data set, and so knows what matters in a row.

    Attributes:
        name: Of the data set: distances by its features are called MNIST-FID and so on, and are
            not those of the Inception net.
        accuracy: Its share of right answers on rows that were held out.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, x: Tensor, classes: int, name: str) -> None:
        super().__init__()
        rows = x.flatten(1)
        self.name, self.accuracy = name, float("nan")
        self.register_buffer("mean", rows.mean(0))
        self.register_buffer("scale", rows.std().clamp_min(1e-12))
        first, last = HIDDEN
        self.body = nn.Sequential(
            nn.Linear(rows.shape[1], first), nn.ReLU(), nn.Linear(first, last), nn.ReLU()
        )
        self.head = nn.Linear(last, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return what the last layer decides by, `[n, 64]`."""
        return self.body((x.flatten(1) - self.mean) / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[n, classes]`."""
        return self.head(self.features(x))

    @property
    def digest(self) -> str:
        """Eight digits that tell nets apart: numbers by different nets are not comparable."""
        parts = (t.detach().cpu().numpy().tobytes() for t in self.state_dict().values())
        return hashlib.sha256(b"".join(parts)).hexdigest()[:8]


def train_classifier(x: Tensor, y: Tensor, *, name: str, seed: int = 0) -> Classifier:
    """Train a classifier whose features and answers other measures use.

    A tenth of the rows is held out to tell its accuracy.

    Args:
        x: Rows `[N, *event]`, floats.
        y: Their classes `[N]`, integers from 0.
        name: Of the data set, such as "MNIST".
        seed: Of the net, the split and the batches; the global generator is left alone.

    Raises:
        TypeError: `x` holds no floats, or `y` no integers.
        ValueError: Fewer than 20 rows, sizes that differ, a negative class.

    References:
        Heusel et al. (2017, arXiv 1706.08500) compare images by features of a classifier.

    Example:
        >>> x = torch.cat([torch.zeros(50, 4), torch.ones(50, 4)])
        >>> y = torch.arange(2).repeat_interleave(50)
        >>> net = train_classifier(x, y, name="steps")
        >>> net.accuracy, net.features(x).shape
        (1.0, torch.Size([100, 64]))
    """
    _check_labelled(x, y)
    with torch.inference_mode(mode=False), torch.enable_grad(), seeded(seed):
        held = torch.randperm(len(x)) < len(x) // 10
        net = Classifier(x, int(y.max()) + 1, name)
        optimiser = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, total_iters=STEPS)
        rows, labels = x[~held].clone(), y[~held].clone()
        for _ in range(STEPS):
            batch = torch.randint(len(rows), (BATCH,))
            loss = nn.functional.cross_entropy(net(rows[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        net.accuracy = (net(x[held]).argmax(1) == y[held]).double().mean().item()
    return net.eval().requires_grad_(requires_grad=False)


def featured(of: Subject, features: Features | None) -> tuple[Tensor, Tensor]:
    """Return the features of the data and of as many draws, each `[N, d]`.

    Raises:
        ValueError: Rows that are too wide to be compared as they are, or features that are no
            finite floats `[n, d]`.
    """
    if features is not None:
        return apply(features, of.rows(of.observed)), apply(features, of.rows(of.drawn))
    if (width := of.real.shape[1]) > WIDE:
        raise ValueError(
            f"rows of {width} values are too wide to be compared as they are; give features=, a"
            " function to [n, d], such as train_classifier(x, y, name='MNIST').features"
        )
    return apply(None, of.real), apply(None, of.fake)


def apply(features: Features | None, rows: Tensor) -> Tensor:
    """Return the features `[N, d]` of rows, batch by batch; without any, their values."""
    if features is None:
        return _checked(rows.float().reshape(len(rows), -1), len(rows))
    with torch.no_grad():
        parts = [_checked(features(part), len(part)) for part in rows.split(ROWS)]
    return torch.cat(parts)


def prefix(features: Features | None) -> str:
    """Name what features come from: "MNIST-" of a `Classifier`, else nothing."""
    owner = getattr(features, "__self__", None)
    return f"{owner.name}-" if isinstance(owner, Classifier) else ""


def _checked(found: Tensor, n: int) -> Tensor:
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != n:
        came = list(found.shape) if isinstance(found, Tensor) else repr(found)
        raise ValueError(f"features map {n} rows to a tensor [{n}, d], not to {came}")
    if not found.isfinite().all():
        raise ValueError("features are NaN or infinite for some rows; expected finite numbers")
    return found


def _check_labelled(x: Tensor, y: Tensor) -> None:
    if not x.is_floating_point() or y.is_floating_point():
        raise TypeError(f"x must be floats and y integers, not {x.dtype} and {y.dtype}")
    if len(x) < 20 or y.shape != (len(x),) or int(y.min()) < 0:
        raise ValueError(
            f"a classifier takes 20 rows or more, each with a class from 0 up, not x"
            f" {list(x.shape)} and y {list(y.shape)} from {int(y.min())}"
        )
