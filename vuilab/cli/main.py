"""The command line: `vui COMMAND`, or `python vui.py COMMAND` in a clone.

Each group of commands has a file that holds options and actions; only the file of the command that is run is loaded.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from vuilab.cli.flags import Formatter, add_action

# command -> the file beside this one that has its action, and what it does
COMMANDS = {
    "data": ("data", "make, fetch or index a corpus"),
    "train": ("train", "train a model of the zoo, or a network of the study"),
    "evaluate": ("evaluate", "word and character error rates of a model on a manifest"),
    "transcribe": ("decode", "text of audio files"),
    "listen": ("decode", "text of what is said into the microphone, while it is said"),
    "align": ("decode", "when each word of a text was spoken"),
    "lm": ("lm", "make a language model from text, or measure one"),
    "keywords": ("keywords", "train, evaluate or export a classifier of single words"),
    "spot": ("spot", "find spoken commands in recordings, or while they are said"),
    "study": ("project", "train what a question of the model study compares, and say what comes out"),
    "compare": ("project", "table of the runs on disk; keep the tables of the pages true"),
    "report": ("project", "run a notebook from the top and export it as self-contained HTML"),
    "export": ("project", "a trained model for use without this project: SavedModel, LiteRT or ONNX"),
}


def main(given: Sequence[str] | None = None, zoo: Callable[[], Mapping[str, Callable]] = dict) -> int:
    """Run a command and return the exit status: 0 success, 1 a clear error, 2 wrong usage, 3 some files were skipped.

    Args:
        given: the command line; None: that of this process.
        zoo: returns the builders that `train` knows by name.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up log is not for users of this command
    try:
        arguments = parse(sys.argv[1:] if given is None else given)
        arguments.zoo = zoo
        status = arguments.run(arguments) or 0
        if sys.stdout is not None:  # closed by the shell with >&-
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("Stopped by hand.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has enough of it, also of what Python writes when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, IndexError, RuntimeError, MemoryError) as error:
        if os.environ.get("VUI_DEBUG"):
            raise
        print(f"Error: {_message(error)}", file=sys.stderr)
        return 1


def parse(given: Sequence[str]) -> argparse.Namespace:
    """Return parsed arguments; their `run` is what to do. Of `train` the recipe of the model stands in for the defaults."""
    command = next((word for word in given if not word.startswith("-")), "")
    parser = argparse.ArgumentParser(prog="vui", description=__doc__.partition("\n")[0], formatter_class=Formatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        chosen = commands.add_parser(name, help=text, description=text, formatter_class=Formatter)
        if name == command:
            add_action(chosen, getattr(importlib.import_module(f"vuilab.cli.{module}"), name))
    if command == "train":  # parsed twice, so that what is given on the command line comes before the recipe
        from vuilab.training.recipes import RECIPES

        helped = {"-h", "--help"} & set(given)  # the first time would end with the help
        model = next((word for word in given if word in RECIPES), "") if helped else parser.parse_args(given).model
        commands.choices[command].set_defaults(**RECIPES.get(model, {}))
    return parser.parse_args(given)


def _message(error: Exception) -> str:
    if isinstance(error, MemoryError):  # NumPy says how much was asked for
        return f"There is not enough memory. {error or 'Python could not get more'}. Give it less at a time, or a larger machine."
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error)
