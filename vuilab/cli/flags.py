"""Options of the command line: decorators of the action that uses them, and flags derived from the fields of a dataclass.

An action takes the parsed arguments and returns the exit status, None for success.

A field's metadata (`vuilab.options.option` writes them) hold `help` and, where they are wanted, `choices`, `metavar` and `flag`
(a name other than the field's); a field without help makes no flag. The type says how many values a flag takes:
`tuple[float, ...]` several, `bool` none, and `X | None` one X or nothing. A field that is true unless told otherwise becomes
`--no-NAME`.
"""

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Container
from pathlib import Path
from typing import Any

JSON_VERSION = 1  # of what --json and --format json print

Group = argparse.ArgumentParser | argparse._ArgumentGroup
Kind = typing.TypeVar("Kind")
Action = Callable[[argparse.Namespace], int | None]
Actions = Action | tuple[Action, ...]


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows the default of each option that has one, unless its help speaks of it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        silent = action.default is argparse.SUPPRESS or action.default in (None, (), "") or action.nargs == 0
        if not text or silent or "default" in text:
            return text
        shown = action.default if isinstance(action.default, tuple) else (action.default,)
        return f"{text} (default: {' '.join(map(str, shown))})"


def exit_status(num_done: int, num_skipped: int) -> int:
    """Return what a command that goes through files exits with: 0 all done, 3 some skipped, 1 all skipped."""
    return 1 if not num_done else 3 if num_skipped else 0


def option_of(add: Callable[[Any], Any], group: str = "") -> Callable[[Action], Action]:
    """Return a decorator that gives an action the options that `add` adds to its parser, or to a titled group of that."""

    def decorate(action: Action) -> Action:
        vars(action)["options"] = [(group, add), *vars(action).get("options", ())]
        return action

    return decorate


def argument(*names: str, group: str = "", **settings: Any) -> Callable[[Action], Action]:
    """Return a decorator that gives an action one option, stated as `add_argument` takes it.

    Example:
        >>> @argument("--cups", type=int, default=1, help="how many")
        ... def brew(arguments):
        ...     print(f"{arguments.cups} cups")
        >>> parser = argparse.ArgumentParser()
        >>> add_action(parser, brew)
        >>> brew(parser.parse_args(["--cups", "3"]))
        3 cups
    """
    return option_of(lambda parser: parser.add_argument(*names, **settings), group)


def fields(kind: type, group: str, skip: Container[str] = ()) -> Callable[[Action], Action]:
    """Return a decorator that gives an action the flags of a dataclass; see `add_fields`."""
    return option_of(lambda parser: add_fields(parser, kind, skip), group)


weights = argument("--model", type=Path, metavar="WEIGHTS", help="weights file (default: the released weights)")
json_flag = argument("--json", action="store_true", help="print plain data")
record_flag = argument("--record", action="store_true", help="write the result into the record beside the weights")
training_speakers = argument("--allow-training-speakers", action="store_true", help="measure also who was trained on")


def add_action(parser: argparse.ArgumentParser, action: Actions) -> None:
    """Give a parser the options of an action, or a subcommand for each of several, told by its name and its docstring."""
    if isinstance(action, tuple):
        kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
        for one in action:
            text = str(one.__doc__).partition("\n")[0].rstrip(".")
            text = text[0].lower() + text[1:]
            add_action(kinds.add_parser(one.__name__, help=text, description=text, formatter_class=Formatter), one)
        return
    groups: dict[str, Group] = {"": parser}
    for title, add in vars(action)["options"]:
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        add(groups[title])
    parser.set_defaults(run=action)


def refuse_known_speakers(metadata: dict, speakers: Collection[str | None]) -> None:
    """Refuse to measure a model on speakers that it was trained on, as the metadata of its weights tell.

    Raises:
        ValueError: naming some of them.
    """
    learnt = sorted(set(metadata.get("train_speakers", ())) & {*filter(None, speakers)})
    if learnt:
        raise ValueError(
            f"The model was trained on {len(learnt)} of these speakers ({', '.join(learnt[:5])}...), so what is measured would "
            "flatter it. Choose other speakers, or pass --allow-training-speakers."
        )


def add_fields(group: Group, kind: type, skip: Container[str] = ()) -> None:
    """Add a flag for each field of a dataclass that has a help text, except those named in `skip`.

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
    """Return the dataclass that parsed arguments describe; what they lack keeps its default, and `values` come before them.

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
