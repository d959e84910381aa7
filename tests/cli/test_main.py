"""The command line as a whole: help, wrong usage, errors and stopping."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from vuilab.cli import main
from vuilab.files import repository

ROOT = repository()

KINDS = {
    "data": ["demo", "synthetic", "words", "librispeech", "speech_commands", "index"],
    "lm": ["train", "perplexity"],
    "keywords": ["train", "evaluate", "export"],
}


def run_python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_help_of_every_command_loads_no_deep_learning_backend():
    found = run_python(f"""
import contextlib, io, sys, vui
def help_of(*command):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        vui.main([*command, "--help"])
    assert out.getvalue().startswith(f"usage: {{' '.join(['vui', *command])}} [-h]"), out.getvalue()
help_of()
print(sorted({{"numpy", "numba", "soundfile"}} & set(sys.modules)))
for command in {list(main.COMMANDS)}:
    help_of(command)
    for kind in {KINDS}.get(command, ()):
        help_of(command, kind)
print(sorted({{"tensorflow", "keras", "jax", "torch", "numba"}} & set(sys.modules)))
""")
    assert found.splitlines() == ["[]", "[]"]


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^ +{command}\s+\w", printed, re.MULTILINE) for command in main.COMMANDS)


def test_every_option_has_a_help_text(capsys):
    for command in main.COMMANDS:
        for kind in KINDS.get(command, [None]):
            with pytest.raises(SystemExit):
                main.main([command, *filter(None, [kind]), "--help"])
            printed = capsys.readouterr().out
            *_, options = printed.partition("\n\n")
            bare = re.findall(r"^  (-\S+(?: \S+)*)\n(?!      )", options, re.MULTILINE)
            assert not bare, f"{command} {kind}: {bare}"


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["data"], ["train"], ["evaluate"], ["transcribe"], ["export", "x.h5"], ["train", "x", "--no"]],
)
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 2
    assert "usage: vui" in capsys.readouterr().err


def test_program_started_as_a_script_reports_an_error_in_one_line(tmp_path):
    result = subprocess.run(
        [sys.executable, str(ROOT / "vui.py"), "evaluate", "none.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("Error: No manifest at none.json.") and "Traceback" not in result.stderr


def test_ctrl_c_ends_with_the_status_of_a_signal(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("vuilab.scoring.comparison.load_runs", interrupted)
    assert main.main(["compare"]) == 130
    assert capsys.readouterr().err == "Stopped by hand.\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_enough_ends_the_program_in_silence(unbuffered, tmp_path):
    (tmp_path / "book.txt").write_text("She left the mill. He came back.")
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run(
        [sys.executable, str(ROOT / "vui.py"), "lm", "train", "book.txt", "--out", "lm.npz"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert (found.returncode, found.stderr) == (0, "")


def test_too_little_memory_is_said_with_the_size_that_was_asked_for(monkeypatch, capsys):
    monkeypatch.setattr("vuilab.scoring.comparison.load_runs", lambda *_: np.empty(2**50))
    assert main.main(["compare"]) == 1
    assert "not enough memory. Unable to allocate 8.00 PiB" in capsys.readouterr().err


def test_a_standard_output_that_is_closed_ends_nothing(monkeypatch):
    monkeypatch.setattr("vuilab.scoring.comparison.load_runs", lambda *_: [])
    monkeypatch.setattr(sys, "stdout", None)
    assert main.main(["compare"]) in (0, 1)
