"""Training: one player's step, the loop over players, history, checkpoints."""

from daguerre.train.checkpoint import Saved, load, save
from daguerre.train.fit import fit
from daguerre.train.history import History
from daguerre.train.optimizers import SGD, Adam, RMSprop
from daguerre.train.step import Step

__all__ = ["SGD", "Adam", "History", "RMSprop", "Saved", "Step", "fit", "load", "save"]
