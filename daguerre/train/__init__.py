"""Training: one player's step, the loop over players, what watches it, checkpoints."""

from daguerre.precision import mixed_precision
from daguerre.train.callbacks import (
    Callback,
    Moment,
    early_stop,
    every,
    keep_best,
    sample_grid,
    validation,
)
from daguerre.train.checkpoint import Saved, load, save
from daguerre.train.fit import fit
from daguerre.train.history import History, Series, read_history
from daguerre.train.optimizers import SGD, Adam, RMSprop
from daguerre.train.rates import cosine, stepped, warm_up
from daguerre.train.step import Step
from daguerre.train.store import Checkpoints, restore
from daguerre.train.tensorboard import tensorboard
from daguerre.train.turns import Turn
from daguerre.train.weights import Sharding

__all__ = [
    "SGD",
    "Adam",
    "Callback",
    "Checkpoints",
    "History",
    "Moment",
    "RMSprop",
    "Saved",
    "Series",
    "Sharding",
    "Step",
    "Turn",
    "cosine",
    "early_stop",
    "every",
    "fit",
    "keep_best",
    "load",
    "mixed_precision",
    "read_history",
    "restore",
    "sample_grid",
    "save",
    "stepped",
    "tensorboard",
    "validation",
    "warm_up",
]
