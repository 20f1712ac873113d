"""Files of networks: read into models, and written."""

from __future__ import annotations

from daguerre.formats.bif_reader import read_bif
from daguerre.formats.bif_writer import write_bif
from daguerre.formats.uai import read_uai, read_uai_evidence, write_uai

__all__ = ["read_bif", "read_uai", "read_uai_evidence", "write_bif", "write_uai"]
