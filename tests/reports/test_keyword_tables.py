"""Tables about keyword classifiers follow the records: other winners, ties, labels nobody recognises, several seeds."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import scipy.stats
import soundfile

from vuilab.augment import NOISES
from vuilab.keywords.corpus import Clip, Dataset, choose_clips, index_folder
from vuilab.keywords.models import classifier
from vuilab.keywords.options import KeywordOptions
from vuilab.keywords.scores import KeywordScore, score_of, score_predictions
from vuilab.keywords.training import train_keywords
from vuilab.reports.keyword_tables import (
    KeywordRun,
    apart_from_best,
    best_keyword_run,
    best_table,
    errors_table,
    keyword_block,
    keyword_tasks,
    load_keyword_runs,
    noise_table,
    runs_table,
    slopes_table,
    split_table,
    words_table,
)
from vuilab.reports.ledger import check_project, update_pages
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


def test_a_block_has_a_table_for_each_task_and_says_what_is_apart_from_the_best(folder):
    text = keyword_block(folder)
    low, high = scipy.stats.binomtest(193, 200).proportion_ci(0.95, "wilson")
    accuracy = f"96.5 [{100 * low:.1f}, {100 * high:.1f}]"
    row = f"| matchboxnet | 75,267 | {accuracy} | best | 4, 6, 11 | 300 clips, 8 epochs, 3.0 min |  |"
    assert row in text and text.count("| model |") == 2
    assert "**bed and cat** (200 validation clips; 40 speakers for training, 5 others to choose the epoch)" in text
    assert re.search(r"\| perceptron \| [^|]* \| 70.0 [^|]* \| yes \| 60 \|", text)
    write_run(folder, "perceptron", 0, 9)
    assert re.search(r"\| perceptron \| [^|]* \| 95.5 [^|]* \| no \| 9 \|", keyword_block(folder))
    write_run(folder, "perceptron", 0, 0)
    assert re.search(r"\| matchboxnet \| [^|]* \| 96.5 [^|]* \| no \|", keyword_block(folder))


def test_latency_and_noise_are_shown_where_they_were_recorded(folder):
    noise = {"snr_db": [0, 20], "accuracy": {"pink": [{"rate": 0.25}, {"rate": 0.5}]}}
    write_run(folder, "matchboxnet", 1, 6, evaluation={"latency": {"total_ms": 4.0}, "noise": noise, "clean": True})
    write_run(folder, "matchboxnet", 2, 11, evaluation={"latency": {"total_ms": 6.0}, "clean": True})
    text = keyword_block(folder)
    assert "3.0 min | 5.0 |" in text and text.count("in noise, %") == 1
    assert (
        "Accuracy of matchboxnet (seed 1) in noise, %:\n\n| noise | 0 dB | 20 dB |" in text
        and "| pink | 25.0 | 50.0 |" in text
    )


def test_rows_of_one_model_are_told_apart_by_their_clips(folder):
    corpus = read_record(folder / "matchboxnet_0.json")["corpus"]
    more = corpus | {"train": {"num_clips": 900, "num_speakers": 40}}
    write_run(folder, "matchboxnet", 7, 5, corpus=more)
    rows = [line for line in keyword_block(folder).splitlines() if line.startswith("| matchboxnet")]
    assert ["900 clips" in row for row in rows] == [True, False] and " | best | " in rows[0] and " | no | " in rows[1]


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
    assert update_pages(readme.parent) and keyword_block(folder).split() == readme.read_text().split()[6:-4]
    assert check_project(tmp_path) == []
    write_run(folder, "perceptron", 0, 59)
    assert any("differs from the records in results/speech_commands" in text for text in check_project(tmp_path))


# ---------------------------------------------------------------------- tables


def score(num_right, num_clips=100, labels=("bed", "cat")):
    """Right answers and errors spread evenly over the labels; every error is the last label taken for the first."""
    confusion = np.zeros((len(labels), len(labels)), int)
    for number in range(num_clips):
        label = number % len(labels)
        confusion[label, label if number < num_right else (label + 1) % len(labels)] += 1
    return KeywordScore(labels, confusion, ())


def run(name, num_right, num_clips=100, parameters=1000, val_loss=(0.5, 0.4), val_accuracy=(0.5, 0.6), best_epoch=2):
    report = {"part": "validation", **score(num_right, num_clips).as_dict()}
    record = {"name": name, "parameters": parameters, "wall_seconds": 12.4, "best_epoch": best_epoch, "epochs": 2}
    return KeywordRun(
        name, record | {"report": report}, {"val_loss": list(val_loss), "val_accuracy": list(val_accuracy)}
    )


# ---------------------------------------------------------------------------------------------- comparison


def test_runs_are_apart_from_the_best_where_the_intervals_do_not_meet():
    # Wilson's interval of 95 of 100 begins at 88.8 %; that of 81 of 100 ends at 87.5 %, that of 83 of 100 at 89.1 %
    assert apart_from_best([run("a", 81), run("b", 95)]) == ["yes", "best"]
    assert apart_from_best([run("a", 83), run("b", 95), run("c", 50)]) == ["no", "best", "yes"]


def test_the_last_row_is_the_most_frequent_label_as_the_only_answer():
    assert runs_table([run("good", 90)]).splitlines()[-1].startswith("| (most frequent label) | 0 | 50.0 |")


def test_a_loss_that_rises_again_is_shown():
    assert "| 1.00 |" in runs_table([run("a", 60)])
    assert "| 2.00 |" in runs_table([run("a", 60, val_loss=(0.2, 0.4), best_epoch=1)])


def test_the_best_run_is_the_development_parts_choice_whatever_the_validation_part_says():
    runs = [run("a", 99, val_accuracy=(0.5, 0.6)), run("b", 50, val_accuracy=(0.5, 0.7))]
    assert best_keyword_run(runs).name == "b"
    tie = [
        run("a", 99, val_loss=(0.5, 0.4)),
        run("b", 50, val_loss=(0.5, 0.3)),
        run("c", 50, val_loss=(1, float("nan"))),
    ]
    assert best_keyword_run(tie).name == "b" and best_keyword_run(tie[::-1]).name == "b"
    early = run("early", 50, val_accuracy=(0.9, 0.6), best_epoch=1)
    assert early.at_best("val_accuracy") == 0.9


def test_the_tables_show_size_accuracy_errors_and_times():
    rows = runs_table([run("a_b", 95), run("c", 50)], {"c": {"total_ms": 1.26}}).splitlines()
    assert rows[0].endswith("| training (s) | one clip (ms) |")
    assert rows[2] == "| a_b | 1,000 | 95.0 [88.8, 97.8] | best | 2 of 2 | 1.00 | 12 |  |"
    assert rows[3].endswith("| 12 | 1.3 |")
    chosen = best_table({"first": [run("a", 90)], "second": [run("c", 80), run("b", 70, val_accuracy=(0.5, 0.9))]})
    assert chosen.splitlines()[3] == "| second | 2 | b | 1,000 | 70.0 [60.4, 78.1] | 30 of 100 |"


# ------------------------------------------------------------------------------------------- words, errors


def predictions(pairs, labels=("bed", "cat", "happy")):
    targets = np.array([labels.index(spoken) for spoken, _ in pairs])
    answers = np.array([labels.index(taken) for _, taken in pairs])
    clips = [Clip(spoken, spoken, "validation", str(n), f"{spoken}/{n}.wav") for n, (spoken, _) in enumerate(pairs)]
    return score_predictions(labels, targets, 0.5 * np.eye(len(labels))[answers] + 0.1, clips)


def test_the_most_frequent_wrong_answer_stands_beside_each_label():
    pairs = [("bed", "bed")] * 4 + [("cat", "bed")] * 3 + [("cat", "happy")] + [("cat", "cat")] * 2
    rows = words_table(predictions(pairs)).splitlines()
    assert rows[2].endswith("|  |") and rows[3].endswith("| bed (3) |")


def test_words_without_clips_or_answers_have_empty_cells():
    rows = words_table(predictions([("bed", "bed"), ("cat", "bed")])).splitlines()
    assert rows[2].startswith("| bed | 1 | 50.0 [9.5, 90.5] | 100.0 [")
    assert rows[3].startswith("| cat | 1 |  | 0.0 [") and rows[4] == "| happy | 0 |  |  |  |"


def test_errors_are_listed_and_names_cannot_break_the_table():
    found = predictions([("bed", "cat")] * 3)
    assert errors_table(found, 2).count("bed/") == 2 and "60 %" in errors_table(found, 3)
    nasty = dataclasses.replace(found, errors=(dataclasses.replace(found.errors[0], key="a|b<script>"),))
    assert "<script>" not in errors_table(nasty) and "a|b" not in errors_table(nasty)


def test_a_score_survives_the_record():
    before = predictions([("bed", "cat"), ("cat", "cat")])
    after = score_of(before.as_dict())
    assert after.labels == before.labels and after.errors == before.errors
    np.testing.assert_array_equal(after.confusion, before.confusion)
    with pytest.raises(ValueError, match="no score of a keyword classifier"):
        score_of({"labels": ["a"]})


# ---------------------------------------------------------------------------------------------------- noise


def test_noise_is_shown_by_colour_and_ratio():
    rows = noise_table((-10, 20), {"white": [0.1, 0.9], "brown": [0.2, 0.9]}).splitlines()
    assert rows[0] == "| noise | -10 dB | 20 dB |" and rows[3] == "| brown | 20.0 | 90.0 |"


def test_slopes_stand_beside_those_of_their_colours():
    assert slopes_table({"white": -0.001, "pink": -3.5}).splitlines()[2:] == [
        "| white | +0.00 | +0 |",
        "| pink | -3.50 | -3 |",
    ]


# ----------------------------------------------------------------------------------------------- the split


def clip(part, speaker, label="bed"):
    return Clip(label, label, part, speaker, f"{label}/{speaker}_nohash_0.wav")


def dataset(clips, missing=()):
    return Dataset("corpus", ("bed", "cat"), tuple(clips), 0, missing, (), ())


def test_the_split_is_shown_with_speakers_that_are_in_two_parts():
    clips = [clip("train", "a"), clip("train", "a", "cat"), clip("development", "b"), clip("validation", "c")]
    assert split_table(dataset(clips)).splitlines()[2:] == [
        "| train | 1 | 0 | 1 | 1 |", "| development | 1 | 0 | 1 | 0 |",
        "| validation | 1 | 0 | 1 | 0 |", "| testing | 0 | 0 | 0 | 0 |",
    ]  # fmt: skip
    shared = split_table(dataset([*clips, clip("testing", "a")])).splitlines()
    assert shared[2] == "| train | 1 | 1 | 1 | 1 |" and shared[5] == "| testing | 1 | 1 | 1 | 0 |"


# ----------------------------------------------------------------------------------------------- from disk


@pytest.mark.usefixtures("without_compiling")
def test_runs_are_read_back_as_they_were_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, colour in enumerate(("white", "brown")):
        (tmp_path / "noises" / colour).mkdir(parents=True)
        for speaker in range(30):
            samples = 0.1 * NOISES[colour](16_000, np.random.default_rng([number, speaker]))
            soundfile.write(
                tmp_path / "noises" / colour / f"speaker{speaker}_nohash_0.wav", samples.clip(-1, 1), 16_000
            )
    the_input = keras.Input((20, 11, 1), name="the_input")
    logits = keras.layers.Dense(2, name="logits")(keras.layers.Flatten(name="flatten")(the_input))
    model = classifier(the_input, logits, "perceptron", print_summary=False)
    options = KeywordOptions(epochs=2, verbose=0)
    history = train_keywords(model, choose_clips(index_folder("noises")), "runs/a.pickle", "runs/a.h5", options=options)
    (found,) = load_keyword_runs(["a", "never trained"], "runs")
    record = read_record("runs/a.json")
    assert found.history == history and found.parameters == 442
    assert found.accuracy.as_dict() == record["report"]["accuracy"]
    assert found.at_best("val_loss") == min(history["val_loss"]) == record["scores"]["val_loss"]
    with pytest.raises(FileNotFoundError, match="never trained"):
        load_keyword_runs(["never trained"], "runs")
    write_json("runs/a.json", {key: value for key, value in record.items() if key != "report"})
    with pytest.raises(ValueError, match="resume=True"):
        load_keyword_runs(["a"], "runs")
