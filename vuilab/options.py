"""One statement for each option: its default, its comment and its unit stand in the field of a frozen dataclass.

The command line derives its flags from the fields (`cli/flags.py`), and a run's record comes from their values.
"""

import dataclasses
from typing import Any


def option(default: Any, help: str, **more: Any) -> Any:
    """Return the dataclass field of an option.

    Args:
        default: immutable; its value where nothing is said.
        help: what it does, and in which unit. It comments the field here and explains the flag on the command line.
        more: `flag`: its name on the command line, where that is not the field's; `choices`: the values that a text may take
            (`require_choices` refuses others); `metavar`: what stands for the value in the help.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Options:
        ...     epochs: int = option(20, "passes over the training data", metavar="N")
        >>> Options(epochs=3).epochs, dataclasses.fields(Options)[0].metadata["help"]
        (3, 'passes over the training data')
    """
    return dataclasses.field(default=default, metadata={"help": help, **more})


def require_choices(options: Any) -> None:
    """Refuse values of an options object that are none of their choices.

    Raises:
        ValueError: names the field, its choices and what was received.
    """
    for field in dataclasses.fields(options):
        choices, value = field.metadata.get("choices"), getattr(options, field.name)
        if choices and value not in choices:
            raise ValueError(f"{field.name} must be one of {choices}. Received: {field.name}={value!r}")
