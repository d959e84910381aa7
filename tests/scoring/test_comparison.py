"""Comparisons: the sentences follow the numbers, the plot its limits, and no pickle executes anything."""

import json
import math
import pickle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vuilab.runs.history import save_history
from vuilab.runs.record import write_json
from vuilab.scoring.comparison import (
    COLUMNS,
    RunResult,
    findings,
    html_table,
    load_runs,
    markdown_table,
    plot_comparison,
    short_labels,
    table,
    text_table,
)

NAN = math.nan


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def run(name, val_loss, seconds=10.0, loss=None, record=None, **series):
    history = {
        "loss": list(val_loss) if loss is None else loss,
        "val_loss": list(val_loss),
        "seconds": [seconds] * len(val_loss),
        **series,
    }
    return RunResult(name, history, record)


def text(*runs):
    return "\n".join(findings(runs))


# ----------------------------------------------------------------------------------------------------- findings


def test_the_winner_is_named_with_its_lead_its_epoch_and_the_last():
    words = text(run("one", [300, 200]), run("two", [150, 100]), run("three", [250, 240]))
    assert (
        "two has the lowest validation loss, 100.0 nats per utterance in epoch 2; the next, one, is 100 % higher"
        in words
    )
    assert "The highest is that of three, 240.0." in words


def test_another_winner_changes_the_words():
    words = text(run("one", [300, 50]), run("two", [150, 100]), run("three", [250, 240]))
    assert (
        "one has the lowest validation loss, 50.0 nats per utterance in epoch 2; the next, two, is 100 % higher"
        in words
    )
    assert "two has" not in words


def test_a_tie_is_called_a_tie_and_a_lead_is_not():
    tie = text(run("one", [200, 100]), run("two", [200, 101.9]), run("three", [200, 150]))
    assert (
        "one has the lowest" in tie and "but two (101.9) is within 2 % of it: with one seed each that is a tie" in tie
    )
    lead = text(run("one", [200, 100]), run("two", [200, 102.1]), run("three", [200, 150]))
    assert "tie" not in lead and "two, is 2 % higher" in lead
    several = text(run("one", [100]), run("two", [101]), run("three", [100]))
    assert "but three (100.0) and two (101.0) are within 2 %" in several


def test_a_run_that_diverged_at_once_is_named_and_not_ranked():
    words = text(run("one", [NAN]), run("two", [150, 100]), run("three", [250, 240]))
    assert "The loss of one became undefined (NaN or infinite) in epoch 1, so it takes no part in the ranking." in words
    assert "two has the lowest" in words and "highest is that of three" in words


def test_a_run_that_diverged_late_is_ranked_by_what_it_had_reached_and_says_so():
    words = text(run("one", [80, 70, NAN]), run("two", [150, 100]))
    assert (
        "The loss of one became undefined (NaN or infinite) in epoch 3, so it is ranked by what it had reached in epoch 2."
        in words
    )
    assert "one has the lowest validation loss, 70.0" in words and "takes no part" not in words


def test_an_infinite_loss_counts_as_diverged():
    diverged = run("one", [80, 90], loss=[100.0, math.inf])
    assert diverged.diverged_epoch == 2
    assert run("two", [80, 90]).diverged_epoch == 0


def test_when_all_diverged_there_is_nothing_to_rank():
    sentences = findings([run("one", [NAN]), run("two", [NAN])])
    assert sentences[-1] == "No run has a finite validation loss, so there is nothing to rank."
    assert len(sentences) == 3 and "lowest" not in " ".join(sentences)


def test_a_single_run_is_not_compared():
    words = text(run("one", [200, 100]))
    assert "there is no other run to compare it with" in words and "highest" not in words and "fastest" not in words


def test_overfitting_is_stated_where_the_validation_loss_rises_again_and_only_there():
    words = text(run("one", [200, 100, 106]), run("two", [200, 150, 152]))
    assert "rises again by more than 5 % in one (minimum in epoch 2, 106.0 at the end): further training" in words
    calm = text(run("one", [200, 100, 104]), run("two", [200, 150, 152]))
    assert "none overfits clearly yet" in calm and "rises again" not in calm
    both = text(run("one", [100, 200]), run("two", [150, 300]))
    assert "in one (minimum in epoch 1, 200.0 at the end): further training" in both
    assert "The same holds for two (minimum in epoch 1, 300.0 at the end)." in both
    assert max(len(sentence.split()) for sentence in both.splitlines()) < 30


@pytest.mark.parametrize(("last", "overfits"), [(104.9, False), (105.1, True)])
def test_a_run_overfits_when_its_loss_ends_more_than_5_percent_above_the_minimum(last, overfits):
    words = text(run("one", [200, 100, last]))
    assert ("rises again by more than 5 %" in words) is overfits
    assert ("none overfits" in words) is not overfits


@pytest.mark.parametrize(("rate", "learnt"), [(0.994, True), (0.996, False)])
def test_letters_are_learnt_when_the_error_rate_falls_below_99_5_percent(rate, learnt):
    one = run("one", [200, 100])
    one.history["val_cer"] = [1.0, rate]
    assert ("learnt no letters" in text(one)) is not learnt


def test_who_learnt_no_letters_is_named_and_not_said_to_overfit():
    stuck, good = run("stuck", [200, 220]), run("good", [100, 90])
    stuck.history["val_cer"], good.history["val_cer"] = [1.0, 0.998], [1.0, 0.6]
    words = text(stuck, good)
    assert "stuck learnt no letters: the CER stays at 100 %." in words and "rises again" not in words
    stuck.history["val_cer"] = [1.0, 0.9]
    assert "no letters" not in text(stuck, good) and "rises again by more than 5 % in stuck" in text(stuck, good)


def test_speed_is_weighed_against_accuracy():
    words = text(run("slow", [100], seconds=30), run("fast", [200], seconds=10))
    assert (
        "The fastest is fast with 10.0 s an epoch; slow takes 3.0 times as long and has a validation loss 50 % lower."
        in words
    )


def test_when_the_fastest_is_the_best_the_words_change():
    words = text(run("slow", [200], seconds=30), run("fast", [100], seconds=10))
    assert "fast is also the fastest, 10.0 s an epoch: here accuracy costs no time." in words
    assert "times as long" not in words


def test_speed_is_passed_over_when_it_is_unknown_for_the_best():
    assert "fastest" not in text(run("one", [100]), RunResult("two", {"loss": [90], "val_loss": [90]}))


# -------------------------------------------------------------------------------------------------------- tables


def test_the_table_shows_scores_with_intervals_else_the_history_at_the_best_epoch():
    scores = {"cer": {"rate": 0.25, "low": 0.2, "high": 0.3}, "wer": {"rate": 0.5, "low": 0.4, "high": 0.6}}
    scored = run("scored", [200, 100, 150], record={"name": "scored", "parameters": 16617, "scores": scores})
    plain = run("plain", [200, 100, 150], val_cer=[0.9, 0.5, 0.1], val_wer=[1.0, 0.8, 0.2])
    runs = [scored, plain, run("lost", [NAN])]
    without = [column for column in COLUMNS if column != "WER % with LM"]
    assert table(runs) == [
        tuple(without),
        ("scored", "16,617", "100.0", "25.0 [20.0, 30.0]", "50.0 [40.0, 60.0]", "2 of 3", "10.0"),
        ("plain", "", "100.0", "50.0", "80.0", "2 of 3", "10.0"),
        ("lost", "", "diverged", "", "", "0 of 1", "10.0"),
    ]


def test_the_column_of_the_language_model_is_there_when_a_run_was_evaluated_with_one():
    wer = {"rate": 0.4, "low": 0.35, "high": 0.45}
    fused = run("fused", [100], record={"name": "fused", "evaluation": {"language_model": {"wer": wer}}})
    head, *rows = table([fused, run("greedy", [100])])
    assert head == COLUMNS
    assert [row[COLUMNS.index("WER % with LM")] for row in rows] == ["40.0 [35.0, 45.0]", ""]


def test_tables_have_a_row_per_run_and_equal_columns():
    runs = [run("one", [100]), run("a longer name", [1000])]
    markdown = markdown_table(runs).splitlines()
    assert len(markdown) == 4 and {line.count("|") for line in markdown} == {8}
    lines = text_table(runs).splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1


# ------------------------------------------------------------------------------------------------------- loading


@pytest.fixture
def results(tmp_path):
    for number in range(3):
        losses = [200.0 - 10 * number, 150.0 - 10 * number, 120.0]
        history = {"loss": losses, "val_loss": losses, "val_cer": [0.9, 0.5, 0.4], "seconds": [1.0, 2.0, 9.0]}
        save_history(tmp_path / f"model_{number}.pickle", history)
    write_json(tmp_path / "model_1.json", {"name": "model_1", "parameters": 7})
    return tmp_path


def test_runs_are_loaded_with_their_records_in_the_order_asked_for(results):
    assert [r.name for r in load_runs(None, results)] == ["model_0", "model_1", "model_2"]
    runs = load_runs(["model_2", "model_[01]", "model_?"], results)
    assert [r.name for r in runs] == ["model_2", "model_0", "model_1"]
    assert [r.parameters for r in runs] == [None, None, 7]
    assert runs[0].seconds_per_epoch == 2.0 and runs[0].best_epoch == 3 and runs[0].at_best("val_cer") == 0.4


def test_a_name_without_a_history_is_an_error_that_lists_what_there_is(results):
    with pytest.raises(
        FileNotFoundError, match=r"matches \['modle_9'\]; there are: \['model_0', 'model_1', 'model_2'\]"
    ):
        load_runs(["model_1", "modle_9"], results)


def test_an_empty_folder_is_an_error_with_the_fix(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No history in .* matches anything.*Train that model first"):
        load_runs(None, tmp_path)


class Malicious:
    """Writes a file when it is unpickled by a careless loader."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "executed")


def test_a_malicious_pickle_is_refused_and_executes_nothing(results, tmp_path):
    target = tmp_path / "victim"
    payload = pickle.dumps({"loss": [1.0], "val_loss": Malicious(target)})
    pickle.loads(payload)  # noqa: S301  the payload works
    assert target.read_text() == "executed"
    target.unlink()
    (results / "model_1.pickle").write_bytes(payload)
    with pytest.raises(ValueError, match=r"model_1\.pickle is not a plain history .*Nothing in it was executed"):
        load_runs(None, results)
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", pickle.dumps([1.0, 2.0]), pickle.dumps({"loss": "high"}), pickle.dumps({1: [1.0]})],
    ids=["empty", "text", "a list", "no numbers", "no names"],
)
def test_what_is_no_dict_of_lists_is_refused_by_name(results, content):
    (results / "model_0.pickle").write_bytes(content)
    with pytest.raises(ValueError, match=r"model_0\.pickle.*(?s:.)*dict of lists of numbers"):
        load_runs(["model_0"], results)


def test_a_broken_record_is_named(results):
    (results / "model_1.json").write_text(json.dumps(["no", "record"]))
    with pytest.raises(ValueError, match=r"model_1\.json is no run record"):
        load_runs(None, results)


# ------------------------------------------------------------------------------------------------------ the plot


def test_the_plot_has_a_labelled_curve_per_run_in_panels_with_units(results):
    loss, val_loss, cer = plot_comparison(folder=results).axes
    for ax in (loss, val_loss, cer):
        assert len(ax.lines) == 3 and ax.get_xlabel() == "epoch"
        assert {annotation.get_text() for annotation in ax.texts} == {"model_0", "model_1", "model_2"}
        assert len({(line.get_linestyle(), line.get_marker()) for line in ax.lines}) == 3  # also in grey
    assert "nats per utterance" in loss.get_ylabel() and "(%)" in cer.get_ylabel()
    np.testing.assert_allclose(cer.lines[0].get_ydata(), [90, 50, 40])
    np.testing.assert_allclose(val_loss.lines[1].get_ydata(), [190, 140, 120])
    np.testing.assert_allclose(val_loss.lines[1].get_xdata(), [1, 2, 3])


def test_the_plot_keeps_to_its_limits_and_names(results):
    figure = plot_comparison(["model_0", "model_2"], 100, 180, 2, folder=results)
    loss, val_loss, cer = figure.axes
    for ax in (loss, val_loss):
        assert ax.get_ylim() == (100, 180)
        assert ax.get_xlim() == (1, 2) and len(ax.lines) == 2
        assert all(len(line.get_xdata()) == 2 for line in ax.lines)
    assert cer.get_ylim() != (100, 180)
    only_upper = plot_comparison(max_loss=180, folder=results).axes[0]
    assert only_upper.get_ylim()[1] == 180 and only_upper.get_ylim()[0] < 120


def test_runs_that_diverged_do_not_break_the_plot(results):
    save_history(results / "lost.pickle", {"loss": [NAN], "val_loss": [NAN]})
    save_history(results / "late.pickle", {"loss": [200.0, NAN], "val_loss": [200.0, NAN]})
    save_history(results / "empty.pickle", {"loss": [], "val_loss": []})
    figure = plot_comparison(folder=results)
    figure.canvas.draw()
    assert len(figure.axes[1].lines) == 4
    assert {annotation.get_text() for annotation in figure.axes[1].texts} == {"late", "model_0", "model_1", "model_2"}


def test_histories_without_cer_make_two_panels_and_names_do_not_overlap(tmp_path):
    for number in range(6):
        save_history(tmp_path / f"m{number}.pickle", {"loss": [9.0, 5.0], "val_loss": [9.0, 5.0 + number / 100]})
    figure = plot_comparison(folder=tmp_path)
    figure.canvas.draw()
    assert len(figure.axes) == 2
    ax = figure.axes[1]
    heights = sorted(ax.transData.transform(annotation.xyann)[1] for annotation in ax.texts)
    text_height = ax.texts[0].get_fontsize() * figure.dpi / 72
    assert min(np.diff(heights)) > text_height


# ------------------------------------------------------------------------------------------------- full names


def study_run(folder, stem, full_name, seed=0, losses=(30.0, 20.0)):
    save_history(folder / f"{stem}.pickle", {"loss": list(losses), "val_loss": list(losses), "seconds": [1.0, 1.0]})
    write_json(folder / f"{stem}.json", {"name": stem, "full_name": full_name, "configuration": {"seed": seed}})


def test_runs_are_found_and_called_by_their_full_name(tmp_path):
    study_run(tmp_path, "spec-sum-1", "Spec BD(sum) GRU(8 x1) TD(D)")
    study_run(tmp_path, "spec-mul-2", "Spec BD(mul) GRU(8 x1) TD(D)")
    study_run(tmp_path, "mfcc-mul-3", "MFCC BD(mul) GRU(8 x1) TD(D)")
    assert [run.name for run in load_runs(["MFCC *", "spec-sum*"], tmp_path)] == [
        "MFCC BD(mul) GRU(8 x1) TD(D)",
        "Spec BD(sum) GRU(8 x1) TD(D)",
    ]
    assert [run.name for run in load_runs(["Spec BD(mul) GRU(8 x1) TD(D)"], tmp_path)] == [
        "Spec BD(mul) GRU(8 x1) TD(D)"
    ]


def test_runs_that_share_a_full_name_are_numbered(tmp_path):
    study_run(tmp_path, "a-1", "Spec GRU(8 x1)", seed=0)
    study_run(tmp_path, "a-2", "Spec GRU(8 x1)", seed=1)
    assert [run.name for run in load_runs(None, tmp_path)] == ["Spec GRU(8 x1) [1]", "Spec GRU(8 x1) [2]"]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["model_1", "model_2"], ["model_1", "model_2"]),
        (["Spec GRU(8 x1) BN relu TD(D)"], ["Spec GRU(8 x1) BN relu TD(D)"]),
        (["Spec GRU(8 x1) BN relu TD(D)", "Spec GRU(8 x1) relu BN TD(D)"], ["BN relu", "relu BN"]),
        (
            [
                "Spec CNN(9 (3,1) relu BN) GRU(8 x2 BN relu DO(0.2)(:-1)) TD(D)",
                "Spec CNN(9 (3,1) relu BN)x3 TD(D) Final",
            ],
            ["CNN(9 (3,1) relu BN) GRU(8 x2 BN relu DO(0.2)(:-1))", "CNN(9 (3,1) relu BN)x3 Final"],
        ),
        (["Spec TD(D)", "Spec TD(D) Final"], ["Spec TD(D)", "Spec TD(D) Final"]),  # nothing would be left of the first
    ],
)
def test_labels_keep_what_tells_names_apart(names, labels):
    assert short_labels(names) == labels


def test_the_html_table_sorts_numbers_as_numbers_and_loads_nothing(tmp_path):
    study_run(tmp_path, "a", "Spec <b>")
    study_run(tmp_path, "b", "Spec b", losses=(9.0, 100.0))
    html = html_table(load_runs(None, tmp_path))
    assert html.count("<tr>") == 3 and "Spec &lt;b&gt;" in html
    assert "src=" not in html and "http" not in html
