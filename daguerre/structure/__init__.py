"""What the graph alone can answer: separation, blankets, substitution, inversion. No tensors."""

from daguerre.structure.eliminate import eliminate, eliminated_names

__all__ = ["eliminate", "eliminated_names"]
