"""Run the command line: `python -m daguerre`."""

import sys

from daguerre.cli import main

__all__ = []

if __name__ == "__main__":
    sys.exit(main())
