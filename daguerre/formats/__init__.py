"""Files of networks: read into models, and written."""

from __future__ import annotations

from daguerre.formats.bif_reader import read_bif
from daguerre.formats.bif_writer import write_bif

__all__ = ["read_bif", "write_bif"]
