"""One statement for each option: its default, its comment and its unit stand in the field of a frozen dataclass.

The command line derives its flags from the fields (`dataclasses.fields`), and a run's record from their values. A field
without a help text, such as one that holds an object, makes no flag.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any


def option(
    default: Any, help: str, *, flag: str | None = None, choices: Sequence[str] = (), metavar: str | None = None
) -> Any:
    """Return the dataclass field of an option.

    Args:
        default: immutable; its value where nothing is said.
        help: what it does, and in which unit. It comments the field here and explains the flag on the command line.
        flag: of the command line, where it is not named after the field; '' where it has none.
        choices: the values that a text may take; `require_choices` refuses others.
        metavar: stands for the value in the help.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Options:
        ...     epochs: int = option(20, "passes over the training data", metavar="N")
        >>> Options(epochs=3).epochs, dataclasses.fields(Options)[0].metadata["help"]
        (3, 'passes over the training data')
    """
    metadata = {"help": help, "flag": flag, "choices": tuple(choices), "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def require_choices(options: Any) -> None:
    """Refuse values of an options object that are none of their choices.

    Raises:
        ValueError: names the field, its choices and what was received.
    """
    for field in dataclasses.fields(options):
        choices, value = field.metadata.get("choices"), getattr(options, field.name)
        if choices and value not in choices:
            raise ValueError(f"{field.name} must be one of {choices}. Received: {field.name}={value!r}")
