"""Sections of the study's notebook: conclusions from committed runs or full runs only, never from a trial."""

import pytest

from vuilab.runs.history import save_history
from vuilab.runs.record import write_json
from vuilab.study import sections
from vuilab.study.questions import question
from vuilab.study.sections import conclusion, networks_at, verdict_table


def write_runs(folder, settings, losses):
    """A run on disk for each loss of each label."""
    folder.mkdir(exist_ok=True)
    for label, values in losses.items():
        for seed, value in enumerate(values):
            stem = f"{label}-{seed}"
            save_history(folder / f"{stem}.pickle", {"loss": [value, value], "val_loss": [value + 9, value]})
            record = {
                "name": stem,
                "status": "finished",
                "full_name": settings[label].name,
                "configuration": {"seed": seed},
            }
            write_json(folder / f"{stem}.json", record)


def test_conclusions_come_from_the_committed_runs_and_follow_their_numbers(tmp_path):
    item = question("features")
    write_runs(tmp_path / "a", item.evidence, {"spectrogram": [150, 151, 152], "MFCC": [150, 152, 151]})
    text = " ".join(conclusion(item, "quick", tmp_path / "none", tmp_path / "a"))
    assert "holds, as far as these runs can tell" in text and "(3 seeds)" in text
    write_runs(tmp_path / "b", item.evidence, {"spectrogram": [150, 151, 152], "MFCC": [130, 132, 131]})
    text = " ".join(conclusion(item, "quick", tmp_path / "none", tmp_path / "b"))
    assert "does not hold" in text and "lowest first: MFCC" in text


def test_a_trial_of_the_machinery_draws_no_conclusion(tmp_path):
    item = question("dense")
    write_runs(tmp_path, item.at_scale("tiny"), {"with": [1.0], "without": [100.0]})
    assert conclusion(item, "quick", tmp_path, tmp_path / "none") == [
        "The reference found: the dense layer improves the loss drastically. Here: not run on real speech yet."
    ]
    full = {"with": [1.0, 1.1], "without": [100.0, 101.0]}
    write_runs(tmp_path / "full", item.settings, full)
    assert "holds (with is" in " ".join(conclusion(item, "full", tmp_path / "full", tmp_path / "none"))


def test_a_question_without_claims_says_so(tmp_path):
    assert "states no finding" in conclusion(question("raw"), "quick", tmp_path, tmp_path / "none")[0]


def test_scales():
    assert networks_at(question("merge"), "tiny") == {}
    smoke = networks_at(question("features"), "tiny")
    assert list(smoke) == ["spectrogram", "MFCC"]
    assert {setting.model.rnn_layers for setting in smoke.values()} == {1}
    assert networks_at(question("features"), "quick")["MFCC"].model.rnn_layers == 4
    assert networks_at(question("merge"), "quick")["mul"].model.rnn_units == 24
    assert networks_at(question("merge"), "full") == {}  # the sections train those
    with pytest.raises(ValueError, match="scale"):
        networks_at(question("merge"), "huge")


def test_the_verdict_table_has_a_row_for_every_finding(tmp_path, monkeypatch):
    monkeypatch.setattr(sections, "EVIDENCE", tmp_path)
    write_runs(tmp_path, question("cell").evidence, {"GRU": [150, 151], "LSTM": [170, 171]})
    table = verdict_table("quick")
    assert "| GRU or LSTM? | GRU reaches a slightly lower loss. | holds |" in table
    assert table.count("\n") > 30 and table.count("| not run |") == table.count("\n") - 2
