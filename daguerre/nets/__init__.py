"""Nets as graphs: modules and ONNX files read into models, call by call or unit by unit."""

from daguerre.nets.imported import Imported
from daguerre.nets.modules import from_module
from daguerre.nets.onnx_file import from_onnx
from daguerre.nets.randomize import randomize
from daguerre.nets.units import units

__all__ = ["Imported", "from_module", "from_onnx", "randomize", "units"]
