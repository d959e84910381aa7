"""The pages' blocks follow the records, and records of uncommitted code are found."""

import json
import shutil
import subprocess

import pytest

from vuilab.reports import ledger
from vuilab.reports.ledger import check_project, result_block, update_pages
from vuilab.runs.history import save_history
from vuilab.runs.record import read_record, write_json
from vuilab.scoring.comparison import findings, load_runs

README = """# Title

Before.

<!-- results: results/real -->
typed by hand
<!-- end results -->

After.
"""


def write_run(folder, name, val_loss, **changes):
    save_history(folder / f"{name}.pickle", {"loss": val_loss, "val_loss": val_loss, "seconds": [3.0] * len(val_loss)})
    rate = {"rate": 0.25, "low": 0.2, "high": 0.3}
    record = {
        "name": name,
        "commit": "0123abc",
        "clean": True,
        "parameters": 442_029,
        "backend": "tensorflow",
        "versions": {"keras": "3.0", "tensorflow": "2.0"},
        "machine": {"cores": 2},
        "corpus": {
            "train": {"num_utterances": 611, "hours": 1.034, "num_speakers": 13},
            "validation": {"num_utterances": 167, "hours": 0.3, "num_speakers": 3},
        },
        "configuration": {"max_duration": 10.0, "seed": 0},
        "scores": {"cer": rate, "wer": rate, "interval": "bootstrap over 12 speakers"},
    }
    write_json(folder / f"{name}.json", {**record, **changes})


@pytest.fixture
def root(tmp_path):
    """A project folder, no git checkout, with two runs and a README that shows them."""
    folder = tmp_path / "results" / "real"
    write_run(folder, "model_1", [200.0, 120.0])
    write_run(folder, "model_2", [150.0, 100.0])
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    return tmp_path


def update(root):
    return update_pages(root)


def test_a_block_states_conditions_table_and_findings(root):
    block = result_block(root / "results" / "real")
    assert (
        "Trained on 611 utterances (1.03 h, 13 speakers), validated on 167 (0.30 h, 3 other speakers), utterances up to 10 s.\n"
        "Seed 0, greedy decoding, Keras 3.0 on tensorflow 2.0, 2 cores." in block
    )
    assert "95 % intervals (bootstrap over 12 speakers)" in block
    assert "| model_2 | 442,029 | 100.0 | 25.0 [20.0, 30.0] | 25.0 [20.0, 30.0] | 2 of 2 | 3.0 |" in block
    assert "\n".join(findings(load_runs(None, root / "results" / "real"))) in block


def test_updating_writes_the_block_once_and_leaves_the_rest(root):
    assert update(root) is True
    text = (root / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Title\n\nBefore.\n") and text.endswith("<!-- end results -->\n\nAfter.\n")
    assert "typed by hand" not in text and "model_2 has the lowest validation loss" in text
    assert update(root) is False
    assert check_project(root) == []


def test_a_readme_changed_by_hand_is_found(root):
    update(root)
    readme = root / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8").replace("| 100.0 |", "| 90.0 |"), encoding="utf-8")
    assert check_project(root) == [
        "README.md differs from the records in results/real. Run: python vui.py compare --update"
    ]
    update(root)
    assert check_project(root) == []


def test_records_changed_after_the_readme_are_found(root):
    update(root)
    write_run(root / "results" / "real", "model_1", [200.0, 80.0])
    assert len(check_project(root)) == 1
    update(root)
    assert "model_1 has the lowest validation loss" in (root / "README.md").read_text(encoding="utf-8")


def test_a_block_of_a_folder_without_runs_is_found(root):
    update(root)
    shutil.rmtree(root / "results")
    assert check_project(root) == ["README.md shows results of results/real, which holds no runs."]


@pytest.mark.parametrize("changes", [{"clean": False}, {"commit": "unknown"}, {"commit": None}, {"clean": None}])
def test_a_record_from_uncommitted_code_is_found(root, changes):
    write_run(root / "results" / "real", "model_2", [150.0, 100.0], **changes)
    update(root)
    assert check_project(root) == ["real/model_2.json comes from uncommitted code; train it again."]


@pytest.mark.parametrize("part", ["evaluation", "character_evaluation"])
def test_an_evaluation_by_uncommitted_code_is_found(root, part):
    path = root / "results" / "real" / "model_2.json"
    measured = {"clean": False, "commit": "0123", "command": "python vui.py evaluate DIR/valid_corpus.json --record"}
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {part: measured}), encoding="utf-8")
    assert "real/model_2.json comes from uncommitted code; evaluate it again." in check_project(root)


def test_histories_without_any_record_are_an_error_with_the_fix(root):
    for path in (root / "results" / "real").glob("*.json"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"have no run records \(NAME\.json\) beside them. Train again"):
        result_block(root / "results" / "real")


def test_in_a_checkout_only_folders_with_committed_records_count(root):
    update(root)
    write_run(root / "results" / "scratch", "trial", [100.0], clean=False)

    def git(*arguments):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "core.hooksPath=/dev/null")
        subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)

    git("init")
    git("add", "README.md", "results/real")
    git("commit", "-m", "results")
    assert check_project(root) == []
    git("add", "results/scratch")
    assert check_project(root) == ["scratch/trial.json comes from uncommitted code; train it again."]


@pytest.mark.parametrize(
    ("gru", "lstm", "verdict"),
    [([100, 101], [120, 121], "holds"), ([120, 121], [100, 101], "does not hold"), ([90, 110], [95, 105], "undecided")],
)
def test_a_block_of_the_study_says_what_its_runs_show(gru, lstm, verdict, root, monkeypatch):
    found = {"GRU": gru, "LSTM": lstm}
    monkeypatch.setattr(ledger, "best_losses", lambda settings, folder: found if set(found) <= set(settings) else {})
    readme = root / "README.md"
    readme.write_text("a\n<!-- study: results/study -->\nold\n<!-- end study -->\nb\n")
    assert ledger.update_pages(readme.parent)
    text = readme.read_text()
    assert text.startswith("a\n<!-- study: results/study -->\n**GRU or LSTM?** Best validation loss")
    assert (
        f"\n- The reference found: GRU reaches a slightly lower loss. Here: {verdict}" in text and "not run" not in text
    )
    monkeypatch.setattr(ledger, "best_losses", lambda settings, folder: {})
    with pytest.raises(FileNotFoundError, match="no runs of the study"):
        ledger.update_pages(readme.parent)


def test_a_block_of_decoding_shows_rates_with_and_without_a_language_model(root):
    readme = root / "README.md"
    readme.write_text("<!-- decoding: results/real -->\n<!-- end decoding -->\n")
    with pytest.raises(FileNotFoundError, match="no run that was evaluated with a language model"):
        ledger.update_pages(readme.parent)

    def rates(cer, wer):
        return {"cer": {"rate": cer, "low": cer, "high": cer}, "wer": {"rate": wer, "low": wer, "high": wer}}

    path = next((root / "results" / "real").glob("*.json"))
    record = read_record(path)
    fused = {"file": "lm.npz", "order": 3, "beam_width": 100, "chosen": "by hand", **rates(0.4, 0.6)}
    fused |= {"wer_difference": {"difference": -0.2, "low": -0.25, "high": -0.15}, "word_confidence": {"auc": 0.75}}
    record["evaluation"] = {"num_utterances": 7, "interval": "bootstrap", **rates(0.5, 0.8), "language_model": fused}
    write_json(path, record)
    assert ledger.update_pages(readme.parent)
    text = readme.read_text()
    cells = (
        "| 7 | 50.0 [50.0, 50.0] | 40.0 [40.0, 40.0] | 80.0 [80.0, 80.0] | 60.0 [60.0, 60.0] | -20.0 [-25.0, -15.0] |"
    )
    assert f"| {record['name']} {cells}" in text
    assert "Beam search with lm.npz (order 3, beam 100); weights chosen by hand." in text


def test_pages_of_the_docs_are_held_too_and_no_line_is_long(root):
    (root / "docs").mkdir()
    page = root / "docs" / "results.md"
    page.write_text(README, encoding="utf-8")
    assert len(check_project(root)) == 2 and update(root) and check_project(root) == []
    text = page.read_text(encoding="utf-8")
    assert "95 % intervals (bootstrap over" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= ledger.WIDTH


def test_a_run_with_a_full_name_is_shown_by_the_name_of_its_files(root):
    write_run(root / "results" / "real", "model_2", [150.0, 100.0], full_name="Spec GRU(200 x1) TD(D)")
    block = result_block(root / "results" / "real")
    assert "| model_2 |" in block and "Spec GRU" not in block
