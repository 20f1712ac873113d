"""What the graph alone can answer: separation, blankets, substitution. No tensors."""

from daguerre.structure.bayes_ball import Requisite, requisite
from daguerre.structure.eliminate import eliminate, eliminated_names
from daguerre.structure.feedback import feedback
from daguerre.structure.inverse import inverse
from daguerre.structure.lint import Finding, Lint, lint
from daguerre.structure.separation import determined, independent
from daguerre.structure.separator import minimal_separator
from daguerre.structure.skeleton import equivalent, markov_blanket, moralize
from daguerre.structure.spread import spread
from daguerre.structure.statement import Statement, read_statement
from daguerre.structure.trail import Separation, Trail, active_trail, separation
from daguerre.structure.unroll import unroll

__all__ = [
    "Finding",
    "Lint",
    "Requisite",
    "Separation",
    "Statement",
    "Trail",
    "active_trail",
    "determined",
    "eliminate",
    "eliminated_names",
    "equivalent",
    "feedback",
    "independent",
    "inverse",
    "lint",
    "markov_blanket",
    "minimal_separator",
    "moralize",
    "read_statement",
    "requisite",
    "separation",
    "spread",
    "unroll",
]
