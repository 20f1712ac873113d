"""Files of networks, read into models and written: BIF, UAI, and JSON of our own."""

from __future__ import annotations

from daguerre.formats.bif_reader import read_bif
from daguerre.formats.bif_writer import write_bif
from daguerre.formats.json_reader import read_network
from daguerre.formats.json_writer import write_network
from daguerre.formats.uai import read_uai, read_uai_evidence, write_uai
from daguerre.infer.product import Factors

__all__ = [
    "Factors",
    "read_bif",
    "read_network",
    "read_uai",
    "read_uai_evidence",
    "write_bif",
    "write_network",
    "write_uai",
]
