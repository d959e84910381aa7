"""Flags come from the fields of a dataclass: names, types, defaults and help; and parsed arguments become one again."""

import argparse
import dataclasses
from dataclasses import field
from pathlib import Path

import pytest

from vuilab.cli.flags import Formatter, add_fields, from_arguments
from vuilab.options import option


@dataclasses.dataclass(frozen=True)
class Coffee:
    """Made to order."""

    cups: int = field(metadata={"help": "how many"})
    milk_share: float = option(0.25, "of the cup, up to 50 %")
    sugar: float | None = option(None, "grams", metavar="G")
    roast: str = option("dark", "of the beans", choices=("light", "dark"))
    extras: tuple[str, ...] = option((), "on top", flag="with")
    degrees: tuple[float, ...] = option((80.0, 85.0), "of the water in °C")
    iced: bool = option(False, "with ice")
    lid: bool = option(True, "drink it here, at 100 %")
    machine: Path | None = option(None, "which one")
    brewed: int = 0  # without help: no flag

    def __post_init__(self) -> None:
        if self.cups < 1:
            raise ValueError(f"cups must be at least 1. Received: cups={self.cups}")


def make_parser(**options) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(formatter_class=Formatter)
    add_fields(parser.add_argument_group("coffee"), Coffee, **options)
    return parser


def parse(text: str, **values) -> Coffee:
    return from_arguments(Coffee, make_parser().parse_args(text.split()), **values)


def test_defaults_are_those_of_the_dataclass_and_given_values_replace_them():
    assert parse("--cups 2") == Coffee(2)
    command = (
        "--cups 1 --milk-share 0.5 --sugar 3 --roast light --with cream cocoa --degrees 90 --iced --no-lid --machine x"
    )
    assert parse(command) == Coffee(1, 0.5, 3.0, "light", ("cream", "cocoa"), (90.0,), True, False, Path("x"))
    assert parse("--cups 1", cups=4, iced=True, brewed=2) == Coffee(4, iced=True, brewed=2)


def test_help_shows_units_choices_and_defaults(capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--help"])
    lines = " ".join(capsys.readouterr().out.split())
    assert "coffee: --cups CUPS how many" in lines
    assert "of the cup, up to 50 % (default: 0.25)" in lines and "--sugar G grams --roast" in lines
    assert "{light,dark} of the beans (default: dark)" in lines and "of the water in °C (default: 80.0 85.0)" in lines
    assert "--iced with ice --no-lid drink it here, at 100 % --machine MACHINE which one" in lines
    assert "brewed" not in lines


@pytest.mark.parametrize("command", ["", "--cups one", "--cups 1 --roast green", "--cups 1 --brewed 3"])
def test_wrong_values_are_wrong_usage(command, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(command)
    assert caught.value.code == 2


def test_what_the_dataclass_refuses_is_refused_and_skipped_fields_have_no_flag():
    with pytest.raises(ValueError, match="cups must be at least 1"):
        parse("--cups 0")
    arguments = make_parser(skip=("cups", "iced")).parse_args([])
    assert not hasattr(arguments, "cups") and from_arguments(Coffee, arguments, cups=3) == Coffee(3)
