"""What the graph alone can answer: separation, blankets, substitution. No tensors."""

from daguerre.structure.bayes_ball import Requisite, requisite
from daguerre.structure.eliminate import eliminate, eliminated_names
from daguerre.structure.separation import determined, independent
from daguerre.structure.skeleton import equivalent, markov_blanket, moralize
from daguerre.structure.statement import Statement, read_statement
from daguerre.structure.trail import Separation, Trail, active_trail, separation

__all__ = [
    "Requisite",
    "Separation",
    "Statement",
    "Trail",
    "active_trail",
    "determined",
    "eliminate",
    "eliminated_names",
    "equivalent",
    "independent",
    "markov_blanket",
    "moralize",
    "read_statement",
    "requisite",
    "separation",
]
