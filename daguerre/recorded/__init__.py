"""Recursions that a training step repeats: one slice is traced, all run as its code."""

from daguerre.recorded.recorder import Recorder, recorder_for, recording
from daguerre.recorded.tape import Line, Source, Tape

__all__ = ["Line", "Recorder", "Source", "Tape", "recorder_for", "recording"]
