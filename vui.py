#!/usr/bin/env python3
"""The command line of the laboratory: `python vui.py COMMAND --help`, or `vui COMMAND` after `pip install .`."""

import contextlib
import sys
from collections.abc import Sequence

from vuilab.cli.main import main as run


def zoo() -> dict:
    """Return the builders that `vui train` knows by name; loaded only where one is wanted."""
    from sample_models import ZOO

    return ZOO


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0 success, 1 a clear error, 2 wrong usage."""
    return run(arguments, zoo)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
