"""Flags of the command line, derived from the fields of a dataclass, so that an option is stated once.

A field's metadata (`vuilab.options.option` writes them) hold `help` and, where they are wanted, `choices`, `metavar` and `flag`
(a name other than the field's); a field without help makes no flag. The type says how many values a flag takes:
`tuple[float, ...]` several, `bool` none, and `X | None` one X or nothing. A field that is true unless told otherwise becomes
`--no-NAME`.
"""

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

JSON_VERSION = 1  # of what --json and --format json print
RECORD_HELP = "write the result into the record beside the weights"

Group = argparse.ArgumentParser | argparse._ArgumentGroup
Kind = typing.TypeVar("Kind")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows the default of each option that has one, unless its help speaks of it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        silent = action.default is argparse.SUPPRESS or action.default in (None, (), "") or action.nargs == 0
        if not text or silent or "default" in text:
            return text
        shown = action.default if isinstance(action.default, tuple) else (action.default,)
        return f"{text} (default: {' '.join(map(str, shown))})"


def add_command(
    commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Return the parser of a command, whose arguments `run` takes.

    Args:
        commands: what `add_subparsers` returned.
        name: of the command.
        text: what it does, for the help.
        run: its action; returns the exit status.
    """
    parser = commands.add_parser(name, help=text, description=text, formatter_class=Formatter)
    parser.set_defaults(run=run)
    return parser


def add_weights(group: Group) -> None:
    """Add --model, the weights of a command that uses a trained model."""
    group.add_argument("--model", type=Path, metavar="WEIGHTS", help="weights file (default: the released weights)")


def add_fields(group: Group, kind: type, skip: Container[str] = ()) -> None:
    """Add a flag for each field of a dataclass that has a help text.

    Args:
        group: a parser, or a group of one.
        kind: the dataclass.
        skip: names of fields that get no flag.

    Example:
        >>> from vuilab.options import option
        >>> @dataclasses.dataclass(frozen=True)
        ... class Search:
        ...     beam_width: int = option(100, "texts that are kept")
        >>> parser = argparse.ArgumentParser()
        >>> add_fields(parser, Search)
        >>> from_arguments(Search, parser.parse_args(["--beam-width", "5"]))
        Search(beam_width=5)
    """
    annotations = typing.get_type_hints(kind)
    for field in _fields(kind):
        if field.name not in skip:
            _add_flag(group, field, annotations[field.name])


def from_arguments(kind: type[Kind], arguments: argparse.Namespace, /, **values: Any) -> Kind:
    """Return the dataclass that parsed arguments describe.

    Args:
        kind: the dataclass.
        arguments: parsed; fields that are not among them keep their defaults.
        values: of fields, which come before the arguments.

    Raises:
        ValueError: what the dataclass refuses.
    """
    given = {
        field.name: getattr(arguments, _dest(field)) for field in _fields(kind) if hasattr(arguments, _dest(field))
    }
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return kind(**{**given, **values})


def _fields(kind: type) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(kind) if field.init and "help" in field.metadata]


def _dest(field: dataclasses.Field) -> str:
    """Return where the parsed value stands: under the name of the flag, as recipes have it too."""
    return field.metadata.get("flag", field.name).replace("-", "_")


def _add_flag(group: Group, field: dataclasses.Field, annotation: Any) -> None:
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    options: dict[str, Any] = {"dest": _dest(field), "help": field.metadata["help"].replace("%", "%%")}
    flag = _dest(field).replace("_", "-")
    if default is dataclasses.MISSING:
        options["required"] = True
    else:
        options["default"] = default
    if annotation is bool:
        flag = f"no-{flag}" if default is True else flag
        options["action"] = "store_false" if default is True else "store_true"
    else:
        options["type"], several = _value_type(annotation)
        options |= {name: field.metadata[name] for name in ("choices", "metavar") if name in field.metadata}
        if several:
            options["nargs"] = "+"
    group.add_argument(f"--{flag}", **options)


def _value_type(annotation: Any) -> tuple[type, bool]:
    """Return the type of one value, and whether a flag takes several.

    Example:
        >>> _value_type(tuple[float, ...] | None), _value_type(int)
        ((<class 'float'>, True), (<class 'int'>, False))
    """
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        (annotation,) = (part for part in typing.get_args(annotation) if part is not types.NoneType)
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False
