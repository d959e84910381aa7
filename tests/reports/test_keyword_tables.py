"""Runs over several seeds: means, intervals and sentences follow the records."""

import numpy as np
import pytest
import scipy.stats

from vuilab.reports.keyword_tables import keyword_block, keyword_tasks
from vuilab.reports.ledger import check_project, update_readme
from vuilab.runs.history import save_history
from vuilab.runs.record import read_record, write_json


def write_run(folder, model, seed, num_errors, labels=("bed", "cat"), **changes):
    """A record as `train_keywords` writes it, with 200 clips of two labels; all errors are of the first one."""
    confusion = np.zeros((len(labels), len(labels)), int)
    confusion[0, 0], confusion[0, 1], confusion[1, 1] = 100 - num_errors, num_errors, 100
    configuration = {
        "task": "keywords",
        "labels": list(labels),
        "features": {"kind": "mfcc"},
        "epochs": 8,
        "seed": seed,
    }
    parts = {"train": (300, 40), "validation": (30, 5)}
    record = {
        "name": f"{model}_{seed}",
        "status": "finished",
        "model": model,
        "parameters": 75_267,
        "configuration": configuration,
        "corpus": {part: {"num_clips": clips, "num_speakers": speakers} for part, (clips, speakers) in parts.items()},
        "epochs": 6,
        "seconds_per_epoch": 30.0,
        "backend": "jax",
        "clean": True,
        "commit": "0123456789",
        "report": {"part": "validation", "labels": list(labels), "confusion": confusion.tolist(), "errors": []},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{model}_{seed}.json", record | changes)
    save_history(folder / f"{model}_{seed}.pickle", {"val_loss": [1.0]})


@pytest.fixture
def folder(tmp_path):
    where = tmp_path / "results" / "speech_commands"
    for seed, num_errors in enumerate((4, 6, 11)):
        write_run(where, "matchboxnet", seed, num_errors)
    write_run(where, "perceptron", 0, 60)
    write_run(where, "lstm", 0, 20, labels=("bed", "cat", "happy"))
    return where


def test_runs_are_gathered_by_task_and_model(folder):
    tasks = keyword_tasks(folder)
    assert list(tasks) == [("bed", "cat"), ("bed", "cat", "happy")]
    best, worst = tasks["bed", "cat"]
    assert (best.model, worst.model) == ("matchboxnet", "perceptron") and len(best.records) == 3
    assert best.rate == pytest.approx(1 - 7 / 200) and (best.accuracy.num_hits, best.accuracy.num_cases) == (193, 200)


def test_a_block_has_a_table_for_each_task_and_says_who_is_best(folder):
    text = keyword_block(folder)
    low, high = scipy.stats.binomtest(193, 200).proportion_ci(0.95, "wilson")
    row = f"| matchboxnet | 75,267 | 96.5 [{100 * low:.1f}, {100 * high:.1f}] | 4, 6, 11 | 300 | 3.0 |  |"
    assert row in text and text.count("| model |") == 2
    assert "**bed and cat.** Accuracy on the 200 validation clips." in text
    assert "chosen on clips of 5 other speakers; those of training (40) are in neither." in text
    assert "matchboxnet is best on average, 96.5 %; the interval of the next, perceptron, does not overlap" in text
    write_run(folder, "perceptron", 0, 9)
    assert "the interval of perceptron (95.5 %) overlaps with its own" in keyword_block(folder)
    write_run(folder, "perceptron", 0, 0)
    assert "perceptron is best, 100.0 %; the interval of matchboxnet (96.5 %) overlaps" in keyword_block(folder)


def test_latency_and_noise_are_shown_where_they_were_recorded(folder):
    noise = {"snr_db": [0, 20], "accuracy": {"pink": [{"rate": 0.25}, {"rate": 0.5}]}}
    write_run(folder, "matchboxnet", 1, 6, evaluation={"latency": {"total_ms": 4.0}, "noise": noise, "clean": True})
    write_run(folder, "matchboxnet", 2, 11, evaluation={"latency": {"total_ms": 6.0}, "clean": True})
    text = keyword_block(folder)
    assert "| 300 | 3.0 | 5.0 |" in text and text.count("in noise, %") == 1
    assert (
        "Accuracy of matchboxnet (seed 1) in noise, %:\n\n| noise | 0 dB | 20 dB |" in text
        and "| pink | 25.0 | 50.0 |" in text
    )


def test_rows_of_one_model_are_told_apart_by_their_clips(folder):
    corpus = read_record(folder / "matchboxnet_0.json")["corpus"]
    more = corpus | {"train": {"num_clips": 900, "num_speakers": 40}}
    write_run(folder, "matchboxnet", 7, 5, corpus=more)
    assert (
        "matchboxnet trained on 900 clips is best, 97.5 %; the interval of matchboxnet trained on 300 clips (96.5 %)"
        in (keyword_block(folder))
    )


def test_unfinished_runs_and_recognisers_do_not_count(folder, tmp_path):
    write_run(folder, "one_conv", 0, 1, report=None)
    record = read_record(folder / "one_conv_0.json")
    write_json(folder / "one_conv_0.json", {key: value for key, value in record.items() if key != "report"})
    write_run(folder, "model_1", 0, 1, configuration={"optimizer": "sgd"})
    assert {runs.model for models in keyword_tasks(folder).values() for runs in models} == {
        "matchboxnet",
        "perceptron",
        "lstm",
    }
    with pytest.raises(FileNotFoundError, match="holds no run of a keyword classifier"):
        keyword_block(tmp_path)


def test_the_readme_block_is_written_and_checked(folder, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# x\n<!-- keywords: results/speech_commands -->\n<!-- end keywords -->\n")
    assert update_readme(readme.parent) and keyword_block(folder).split() == readme.read_text().split()[6:-4]
    assert check_project(tmp_path) == []
    write_run(folder, "perceptron", 0, 59)
    assert any("differs from the records in results/speech_commands" in text for text in check_project(tmp_path))
