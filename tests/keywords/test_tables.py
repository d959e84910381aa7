"""The sentences about keyword classifiers follow the numbers: other winners, ties and corpora change the words."""

import dataclasses

import keras
import numpy as np
import pytest
import soundfile

from vuilab.augment import NOISES
from vuilab.keywords.corpus import Clip, Dataset, choose_clips, index_folder
from vuilab.keywords.models import classifier
from vuilab.keywords.scores import KeywordScore, Proportion, score_of, score_predictions
from vuilab.keywords.tables import (
    KeywordRun,
    best_run,
    conclusion,
    errors_table,
    findings,
    load_keyword_runs,
    noise_reading,
    runs_table,
    score_reading,
    slopes_reading,
    split_reading,
    split_table,
    words_table,
)
from vuilab.keywords.training import train_keywords
from vuilab.runs.record import read_record, write_json


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


def test_a_clear_winner_is_called_clear_and_a_near_one_is_not():
    clear = findings([run("a", 60), run("b", 95)])[0]
    assert clear.startswith("b recognises most, 95.0 % [88.8, 97.8] of 100 clips") and "do not overlap" in clear
    near = findings([run("a", 92), run("b", 95), run("c", 50)])[0]
    assert "not surely more than a (92.0 %), whose interval overlaps" in near and "c (" not in near
    assert "no other run" in findings([run("a", 60)])[0]


def test_models_no_better_than_the_most_frequent_label_are_named():
    assert "right in 50.0 %; guess is not clearly above that." in findings([run("good", 90), run("guess", 52)])[1]
    assert "all models are clearly above that" in findings([run("good", 90)])[1]


def test_the_largest_model_is_compared_with_the_smallest_in_points():
    found = findings([run("small", 80, parameters=500), run("large", 90, parameters=1000)])[2]
    assert "large, has 2.0 times the parameters of the smallest, small, and is 10.0 points better." in found
    worse = findings([run("small", 90, parameters=500), run("large", 80, parameters=1000)])[2]
    assert "10.0 points worse" in worse
    same = findings([run("small", 90, parameters=500), run("large", 90, parameters=1000)])[2]
    assert "recognises as much" in same


def test_a_loss_that_rises_again_is_reported():
    assert "none of them overfits" in findings([run("a", 60)])[-1]
    assert "a (minimum 0.20, 0.40 at the end)" in findings([run("a", 60, val_loss=(0.2, 0.4), best_epoch=1)])[-1]


def test_the_best_run_is_the_development_parts_choice_whatever_the_validation_part_says():
    runs = [run("a", 99, val_accuracy=(0.5, 0.6)), run("b", 50, val_accuracy=(0.5, 0.7))]
    assert best_run(runs).name == "b"
    tie = [
        run("a", 99, val_loss=(0.5, 0.4)),
        run("b", 50, val_loss=(0.5, 0.3)),
        run("c", 50, val_loss=(1, float("nan"))),
    ]
    assert best_run(tie).name == "b" and best_run(tie[::-1]).name == "b"
    early = run("early", 50, val_accuracy=(0.9, 0.6), best_epoch=1)
    assert early.development_accuracy == 0.9


def test_the_table_shows_size_accuracy_errors_and_times():
    rows = runs_table([run("a_b", 95), run("c", 50)], {"c": {"total_ms": 1.26}}).splitlines()
    assert rows[0].endswith("| training (s) | one clip (ms) |")
    assert rows[2] == "| a_b | 1,000 | 95.0 [88.8, 97.8] | 5 of 100 | 2 of 2 | 12 |  |"
    assert rows[3].endswith("| 12 | 1.3 |")
    assert "one clip" not in runs_table([run("a", 95)])


# ------------------------------------------------------------------------------------------- words, errors


def predictions(pairs, labels=("bed", "cat", "happy")):
    targets = np.array([labels.index(spoken) for spoken, _ in pairs])
    answers = np.array([labels.index(taken) for _, taken in pairs])
    clips = [Clip(spoken, spoken, "validation", str(n), f"{spoken}/{n}.wav") for n, (spoken, _) in enumerate(pairs)]
    return score_predictions(labels, targets, 0.5 * np.eye(len(labels))[answers] + 0.1, clips)


def test_the_hardest_label_and_the_most_frequent_confusion_are_named():
    pairs = [("bed", "bed")] * 4 + [("cat", "bed")] * 3 + [("cat", "cat")] * 2 + [("happy", "happy")] * 3
    text = score_reading(predictions(pairs))
    assert "3 of 12 clips" in text and "'cat' is recognised least, 2 of 5 times" in text
    assert "Most often, 3 times, 'cat' is taken for 'bed'." in text
    assert "No confusion happens twice." in score_reading(predictions([("bed", "cat"), ("cat", "bed"), ("bed", "bed")]))
    assert score_reading(predictions([("bed", "bed")] * 3)) == "All 3 clips are recognised."


def test_words_without_clips_or_answers_have_empty_cells():
    rows = words_table(predictions([("bed", "bed"), ("cat", "bed")])).splitlines()
    assert rows[2].startswith("| bed | 1 | 50.0 [9.5, 90.5] | 100.0 [")
    assert rows[3].startswith("| cat | 1 |  | 0.0 [") and rows[4] == "| happy | 0 |  |  |"


def test_errors_are_listed_and_the_rest_counted_and_names_cannot_break_the_table():
    found = predictions([("bed", "cat")] * 3)
    assert errors_table(found, 2).endswith("And 1 more.") and errors_table(found, 2).count("bed/") == 2
    assert "more" not in errors_table(found, 3) and "60 %" in errors_table(found, 3)
    assert errors_table(predictions([("bed", "bed")])) == "There are no errors to list."
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


def test_the_worst_colour_is_named_where_the_colours_differ_most():
    curve = {
        "white": [Proportion(10, 100), Proportion(40, 100), Proportion(90, 100)],
        "brown": [Proportion(20, 100), Proportion(80, 100), Proportion(90, 100)],
    }
    text = noise_reading(curve, (-10, 0, 20), Proportion(95, 100))
    assert "At -10 dB, the loudest noise, 15 %" in text and "without noise 95 %" in text
    assert "differ most at 0 dB: white noise leaves 40 %, brown noise 80 %" in text
    swapped = noise_reading({"white": curve["brown"], "brown": curve["white"]}, (-10, 0, 20))
    assert "brown noise leaves 40 %" in swapped and "without noise" not in swapped
    assert "makes no difference" in noise_reading({"white": curve["white"], "pink": curve["white"]}, (-10, 0, 20))


def test_slopes_are_held_against_their_colours():
    text = slopes_reading({"white": -0.01, "pink": -3.5})
    assert "white +0.0 and pink -3.5" in text and "pink, by 0.50 dB" in text


def test_the_conclusion_names_both_choices_and_warns_of_few_clips():
    curve = {"white": [Proportion(10, 100)]}
    text = conclusion([run("a", 90)], [run("c", 80), run("b", 70, val_accuracy=(0.5, 0.9))], curve, (0,))
    assert "chose a, which recognises 90.0 %" in text and "chose b, which recognises 70.0 %" in text
    assert "30 of 100 clips" in text and "intervals are wide" in text
    assert "intervals are wide" not in conclusion([run("a", 900, 1000)], [run("b", 900, 1000)], curve, (0,))


# ----------------------------------------------------------------------------------------------- the split


def clip(part, speaker, label="bed"):
    return Clip(label, label, part, speaker, f"{label}/{speaker}_nohash_0.wav")


def dataset(clips, missing=()):
    return Dataset("corpus", ("bed", "cat"), tuple(clips), 0, missing, (), ())


def test_the_split_is_told_with_what_is_missing():
    clips = [clip("train", "a"), clip("train", "a", "cat"), clip("development", "b"), clip("validation", "c")]
    text = split_reading(dataset(clips, ("yes", "no")))
    assert text.startswith("4 clips with 2 labels, the words by 3 speakers. No speaker is in two parts.")
    assert "no clips for: testing" in text and "lacks yes and no" in text
    shared = split_reading(dataset([*clips, clip("testing", "a")]))
    assert "**1 speakers are in two parts**" in shared and "lacks" not in shared and "no clips" not in shared
    assert split_table(dataset(clips)).splitlines()[2] == "| train | 1 | 1 | 1 |"


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
    history = train_keywords(
        model, choose_clips(index_folder("noises")), "runs/a.pickle", "runs/a.h5", epochs=2, verbose=0
    )
    (found,) = load_keyword_runs(["a", "never trained"], "runs")
    record = read_record("runs/a.json")
    assert found.history == history and found.parameters == 442
    assert found.accuracy.as_dict() == record["report"]["accuracy"]
    assert found.development_loss == min(history["val_loss"]) == record["scores"]["val_loss"]
    with pytest.raises(FileNotFoundError, match="never trained"):
        load_keyword_runs(["never trained"], "runs")
    write_json("runs/a.json", {key: value for key, value in record.items() if key != "report"})
    with pytest.raises(ValueError, match="resume=True"):
        load_keyword_runs(["a"], "runs")
