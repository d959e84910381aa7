"""`vui study`, `vui compare` and `vui report`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from vuilab.cli import main
from vuilab.files import repository


def test_compare_prints_the_table_and_draws_the_figure(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = str(trained / "results")
    assert main.main(["compare", "--results", folder, "--figure", "figures/all.png"]) == 0
    printed = capsys.readouterr().out
    record = json.loads((trained / "results" / "tiny.json").read_text())
    row = next(line for line in printed.splitlines() if line.startswith("tiny"))
    assert f"{record['parameters']:,}" in row and f"{record['scores']['val_loss']:.1f}" in row and "1 of 1" in row
    assert Path("figures/all.png").read_bytes().startswith(b"\x89PNG")


def test_compare_without_runs_says_so(project, capsys):
    assert main.main(["compare"]) == 1
    assert "No history in results matches anything" in capsys.readouterr().err
    assert main.main(["compare", "nothing*"]) == 1
    assert re.search(r"No history in results matches \['nothing\*'\]; there are: \[\]\. Train", capsys.readouterr().err)


def test_report_without_notebook_is_an_error(project, capsys):
    assert main.main(["report", "none.ipynb"]) == 1
    assert "Error: No notebook at none.ipynb" in capsys.readouterr().err


def test_report_with_a_failing_cell_ends_with_status_1(project, capsys):
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, "failing.ipynb")
    command = [sys.executable, str(repository() / "vui.py"), "report", "failing.ipynb"]
    result = subprocess.run(command, cwd=project, env={**os.environ}, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "Error: A cell of failing.ipynb failed" in result.stderr and "ZeroDivisionError" in result.stderr
    assert not (project / "results" / "failing.html").exists()


def test_study_lists_its_questions_and_refuses_others(capsys):
    assert main.main(["study"]) == 0
    assert "merge              How should the two directions be merged?" in capsys.readouterr().out
    assert main.main(["study", "colour"]) == 1
    assert "Unknown question 'colour'. Expected one of: dense" in capsys.readouterr().err


def test_study_trains_what_a_question_compares_and_concludes(project, tiny_corpus, capsys):
    command = ["study", "dense", "--corpus", str(tiny_corpus), "--results", "runs", "--batch-size", "20"]
    assert main.main(command) == 0
    printed = capsys.readouterr().out
    assert "== Does the dense layer at each frame matter?" in printed and "undecided (one seed each" in printed
    assert len(list((project / "runs").glob("*.pickle"))) == 2
