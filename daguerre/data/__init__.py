"""Real data as tensors: pictures, music, text and series, from files that the user has.

Nothing is downloaded, no global generator is touched, and every split is the same on every run.
Sequences of different length are padded: NaN, or -1 among whole numbers, is beyond the end.
"""

from daguerre.data.characters import Text, text
from daguerre.data.chorales import chorales
from daguerre.data.images import array, binarise, digits, fashion_mnist, mnist
from daguerre.data.series import Series, series
from daguerre.data.split import Split
from daguerre.idx import read_idx

__all__ = [
    "Series",
    "Split",
    "Text",
    "array",
    "binarise",
    "chorales",
    "digits",
    "fashion_mnist",
    "mnist",
    "read_idx",
    "series",
    "text",
]
