"""What the tests of exports share."""

import contextlib
from contextlib import AbstractContextManager

import keras
import pytest


def exporting_here() -> AbstractContextManager:
    """Run a block that exports; on a backend that cannot, the block must begin with the refusal."""
    if keras.backend.backend() == "tensorflow":
        return contextlib.nullcontext()
    return pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow")
