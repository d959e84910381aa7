#!/usr/bin/env python3
"""The command line of the laboratory: `python vui.py COMMAND --help`, or `vui COMMAND` after `pip install .`."""

import sys
from collections.abc import Sequence

from vuilab.cli import main as cli


def zoo() -> dict:
    """Return the builders that `vui train` knows by name; loaded only where one is wanted."""
    from sample_models import ZOO

    return ZOO


def main(given: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0 success, 1 a clear error, 2 wrong usage, 130 stopped by hand."""
    return cli.main(given, zoo)


if __name__ == "__main__":
    sys.exit(main())
