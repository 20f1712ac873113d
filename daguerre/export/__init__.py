"""Models as functions of tensors, for other programs: torch.export and ONNX.

[export][daguerre.export.export.export] plans on the graph what must be given (`asked`), runs that
in a straight line (`function`), draws by noise that is an input (`mechanisms`), and has torch
trace it (`export`); what comes of it is checked, called, printed and saved (`exported`, `onnx`).
"""

from daguerre.export.export import export
from daguerre.export.exported import Exported

__all__ = ["Exported", "export"]
