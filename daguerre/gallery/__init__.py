"""Models to read and to start from, one idea a file."""

from collections.abc import Callable, Mapping

from daguerre.gallery import twins
from daguerre.game import Game

__all__ = ["GAMES"]

GAMES: Mapping[str, Callable[[int], Game]] = {"gan": twins.gan, "vae": twins.vae}
"""By name, what builds a game for data of the given number of pixels."""
