"""The ablation table and the model card say what the records say: rows by what differs, spreads, pairs, groups of speakers."""

import json
import re

import numpy as np
import pytest

from vuilab.reports.ablation import Row, differences, errors_of, final_block, final_rows
from vuilab.reports.cards import card_block
from vuilab.reports.ledger import check_project, update_pages
from vuilab.runs.history import save_history
from vuilab.runs.record import read_record, write_json
from vuilab.scoring.error_rates import ErrorCounts

SPEAKERS = ("1", "1", "2", "2")
SECONDS = "4.00 8.00 12.00 20.00"


def counts(errors):
    """Four utterances of ten characters and five words; as many wrong words as wrong characters."""
    return ErrorCounts(np.array(SPEAKERS), np.array([errors, [10] * 4]).T, np.array([np.minimum(errors, 5), [5] * 4]).T)


def write_run(
    folder, name, options="", errors=(1, 2, 3, 4), fused=None, sounds=None, seed=0, epochs=3, cer=0.4, day=1, **changes
):
    rate = {"rate": cer, "low": cer - 0.1, "high": cer + 0.1}
    found = {"seconds": SECONDS, "greedy": counts(errors).as_dict()}
    words = options.split()
    more = {"start_from": "0123"} if "--start-from" in words else {}
    more |= {"splice": float(words[words.index("--splice") + 1])} if "--splice" in words else {}
    ema = {
        "use_ema": "--ema" in words,
        "ema_momentum": float(words[words.index("--ema") + 1]) if "--ema" in words else 0.99,
    }
    if fused:
        found["with language model"] = counts(fused).as_dict()
    if sounds:
        found["with language model and phonemes"] = counts(sounds).as_dict()
    record = {
        "name": name,
        "status": "finished",
        "model": "residual_birnn_model",
        "command": f"KERAS_BACKEND=jax python vui.py train net {options} --name {name} --corpus data/small --results r "
        f"--epochs {epochs} --seed {seed} --resume",
        "date": f"2026-01-{day:02d}T00:00:00+00:00",
        "commit": "0123abcdef",
        "clean": True,
        "parameters": 3_000_000,
        "seconds_per_epoch": 120.0,
        "epochs": epochs,
        "best_epoch": epochs,
        "chosen_by": "lowest val_loss on the validation set",
        "backend": "jax",
        "versions": {"keras": "3.0", "jax": "0.1"},
        "machine": {"cores": 1},
        "corpus": {
            "train": {
                "num_utterances": 800,
                "hours": 1.9,
                "num_speakers": 2,
                "speakers": ["7", "8"],
                "manifest": "t.json",
            },
            "validation": {"num_utterances": 3, "hours": 0.3, "num_speakers": 2},
        },
        "configuration": {
            "max_duration": 16.0,
            "seed": seed,
            "epochs": epochs,
            "speeds": [0.9, 1.0, 1.1],
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "features": {"kind": "logmel"},
            "optimizer": {"config": ema},
            **more,
        },
        "scores": {"val_loss": 100.0 + seed, "cer": rate, "wer": {**rate, "rate": 0.8}},
        "evaluation": {
            "utterances": found,
            "sex": {"1": "F", "2": "M"},
            "interval": "bootstrap over utterances",
            "command": "python vui.py evaluate valid.json",
            "commit": "456def",
            "clean": True,
            "word_confidence": {"share_right": 0.25},
        },
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", record)
    save_history(folder / f"{name}.pickle", {"loss": [1.0], "val_loss": [1.0]})
    return folder / f"{name}.json"


@pytest.fixture
def folder(tmp_path):
    """Three seeds of a first row, one row that counts, one that does not, the first one trained for longer, an unfinished run."""
    folder = tmp_path / "results" / "final"
    for seed, cer in enumerate((0.40, 0.41, 0.42)):
        write_run(folder, f"first_{seed}", seed=seed, cer=cer)
    write_run(folder, "dropout", "--model-options dropout=0.3", cer=0.425, day=2)
    write_run(folder, "better", "--start-from a.h5", cer=0.35, day=3)
    write_run(folder, "long", errors=(3, 3, 3, 3), cer=0.3, epochs=8, day=4)
    write_run(folder, "final", "--start-from a.h5", (2, 2, 2, 5), fused=(1, 1, 1, 1), cer=0.2, epochs=8, day=5)
    write_run(folder, "stopped", "--ema 0.9", status="interrupted")
    return folder


def test_differences_are_those_from_the_recipe_of_the_network():
    optimizer = {"config": {"use_ema": True, "ema_momentum": 0.999}}
    recipe = {
        "speeds": [0.9, 1.0, 1.1],
        "schedule": "cosine",
        "warmup_epochs": 1.0,
        "monitor": "val_loss",
        "optimizer": {},
    }
    record = {
        "model": "residual_birnn_model",
        "command": "python vui.py train residual_birnn --model-options dropout=0.3 'heads=(1,)' --name a --start-from b/old.h5",
        "corpus": {"train": {"num_utterances": 7, "hours": 1.25}},
        "configuration": recipe | {"optimizer": optimizer, "start_from": "0123"},
    }
    assert differences(record, 7) == {"dropout": 0.3, "heads": (1,), "ema": 0.999, "start_from": "old"}
    assert differences(record | {"configuration": recipe, "command": "a notebook or script"}, 8) == {"corpus": "1.2 h"}
    noted = record | {"configuration": recipe | {"start_from": "0123", "monitor": "val_cer"}}
    builder = {"name": "residual_birnn", "options": {"heads": [2]}}
    found = differences(
        noted | {"builder": builder, "start_from": "c/new.h5"}, 7
    )  # what the command says does not count
    assert found == {"heads": (2,), "monitor": "val_cer", "start_from": "new"}
    assert Row(found, 1, ()).label == "draft after layer 2, epoch by CER, from new"
    found = differences(noted | {"builder": builder | {"name": "final_model"}}, 7)
    assert found == {"network": "final_model", **found} and found["start_from"] == "earlier weights"
    assert Row(found, 1, ()).label == "final_model, draft after layer 2, epoch by CER, from earlier weights"


def test_rows_gather_seeds_and_count_passes(folder):
    rows = final_rows(folder)
    assert [(row.label, row.passes, len(row.records)) for row in rows] == [
        ("the recipe", 9, 3),
        ("dropout 0.3", 9, 1),
        ("from a", 9, 1),
        ("the recipe", 24, 1),
        ("from a", 24, 1),
    ]
    assert rows[0].values("cer") == [0.40, 0.41, 0.42]
    assert rows[0].values("wer_lm") == []


def test_another_corpus_is_part_of_the_label(folder):
    path = write_run(folder, "elsewhere", day=6)
    record = read_record(path)
    record["corpus"]["train"] |= {"num_utterances": 9000, "hours": 9.48}
    write_json(path, record)
    assert [row.label for row in final_rows(folder) if "corpus" in row.label] == ["corpus of 9.5 h"]


def test_rows_are_compared_with_the_recipe_even_if_another_had_fewer_passes_and_weights_are_named_by_their_row(folder):
    before = final_block(folder)
    path = write_run(folder, "a", epochs=1, day=1)
    record = read_record(path)
    record["configuration"]["speeds"], record["corpus"]["train"]["num_utterances"] = [1.0], 9000
    write_json(path, record)
    block = final_block(folder)
    assert final_rows(folder)[0].label == "corpus of 1.9 h, one speed" and "| 4: from row 1 | 9 |" in block
    later = before.splitlines()[-1].replace("5 against 4", "6 against 5")
    assert block.splitlines()[0] == before.splitlines()[0] and block.splitlines()[-1] == later


def test_longer_utterances_are_left_out_where_rows_are_compared(folder):
    record = read_record(folder / "final.json")
    assert errors_of(record).rate()[0] == pytest.approx(11 / 40)
    assert errors_of(record, longest=16.0).rate()[0] == pytest.approx(6 / 30)
    assert final_rows(folder)[-1].values("cer_lm") == [pytest.approx(3 / 30)]
    assert errors_of(record | {"evaluation": {}}) is None


def test_the_block_shows_means_spreads_and_what_counts(folder):
    block = final_block(folder)
    assert "| 1: the recipe | 9 | 41.0 ± 1.0 |  | 80.0 ± 0.0 |  |" in block
    assert "| 2: dropout 0.3 | 9 | 42.5 | +1.5 | 80.0 |  |" in block
    assert "| 3: from a | 9 | 35.0 | **-6.0** | 80.0 |  |" in block
    assert "against the recipe after as many passes" in block
    assert "twice the spread over seeds, that of the row where it is largest (2.0 points after 9 passes)" in block
    assert "| 5: from a | 24 | 20.0 | -10.0 | 80.0 | 20.0 |" in block  # no spread is known after 24 passes
    # paired, on the three utterances up to 16 s: 9 errors of the yardstick, 6 of the best row, one less in each utterance
    assert "| 5 against 4 | -10.0 [-10.0, -10.0] |  |  |  |" in block


def test_the_spread_is_the_largest_of_the_rows_with_several_seeds(folder):
    for seed, cer in enumerate((0.33, 0.37), start=1):
        write_run(folder, f"better_{seed}", "--start-from a.h5", seed=seed, cer=cer, day=3)
    # standard deviations 1 and 2 points
    assert "(4.0 points after 9 passes)" in final_block(folder)
    write_run(folder, "worse", "--ema 0.9", cer=0.445, day=7)
    assert "| 4: average 0.9 | 9 | 44.5 | +3.5 |" in final_block(folder)


@pytest.mark.parametrize(
    ("cer", "cell"), [(0.4294, "+1.9"), (0.4306, "**+2.1**"), (0.3906, "-1.9"), (0.3894, "**-2.1**")]
)
def test_a_change_is_bold_from_twice_the_spread_on(folder, cer, cell):
    """Both sides of the threshold: the seeds of the recipe have 40, 41 and 42 %, a spread of one point."""
    write_run(folder, "near", "--ema 0.9", cer=cer, day=7)
    assert re.search(rf"\| \d: average 0.9 \| 9 \| [\d.]+ \| {re.escape(cell)} \|", final_block(folder))


def test_without_seeds_or_other_rows_there_is_no_change(tmp_path):
    write_run(tmp_path / "results" / "alone", "first")
    block = final_block(tmp_path / "results" / "alone")
    assert "| CER % | WER % |" in block and "twice the spread" not in block
    write_run(tmp_path / "results" / "alone", "again", seed=1, cer=0.45)
    assert "twice the spread" not in final_block(tmp_path / "results" / "alone")


def test_rows_that_were_read_by_phonemes_too_have_columns_of_their_own(folder):
    assert "| with phonemes too |" not in final_block(folder)
    write_run(folder, "long", errors=(3, 3, 3, 3), fused=(2, 2, 2, 2), cer=0.3, epochs=8, day=4)
    options = "--model-options phoneme_heads=(2,)"
    write_run(folder, "sounds", options, (2, 2, 2, 5), fused=(2, 2, 2, 5), sounds=(0, 1, 1, 0), cer=0.25, day=6)
    block = final_block(folder)
    assert "| WER % with LM | with phonemes too |" in block
    assert "| 4: phonemes after layer 2 | 9 | 25.0 | **-16.0** | 80.0 | 40.0 | 13.3 |" in block
    assert "| 41.0 ± 1.0 |  | 80.0 ± 0.0 |  |  |" in block
    # 2 of 30 characters and of 15 words, where the yardstick has 6 with the language model alone
    assert (
        "| 4 against 5 | -10.0 [-10.0, -10.0] | +0.0 [+0.0, +0.0] | -13.3 [-16.7, -10.0] | -26.7 [-33.3, -20.0] |"
        in block
    )
    card = card_block(folder / "sounds.json")
    assert "| CER % greedy | WER % greedy | WER % with LM | WER % with phonemes too |" in card


def test_what_a_model_of_characters_changes_is_told(folder):
    assert "language model of characters" not in final_block(folder)
    found = {"seconds": SECONDS, "with language model": counts((0, 1, 1, 9)).as_dict()}
    evaluation = {"utterances": found, "language_model": {"order": 7}}
    write_run(folder, "spelled", "--ema 0.9", fused=(1, 2, 2, 0), cer=0.25, day=6, character_evaluation=evaluation)
    # 2 of 30 characters and of 15 words up to 16 s, where words make 5; each utterance has one error less
    cells = "6.7 | -10.0 [-10.0, -10.0] | 13.3 | -20.0 [-20.0, -20.0] |"
    assert f"| 4: character 7-gram | {cells}" in final_block(folder)


def test_a_folder_without_finished_runs_is_refused(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        final_block(tmp_path / "none")


def test_the_card_gives_rates_of_groups_and_where_the_weights_come_from(folder):
    card = card_block(folder / "final.json")
    origin, rates = card.split("\n\n")
    facts = dict(line.strip("| ").split(" | ", 1) for line in origin.splitlines()[2:])
    assert facts["parameters"] == "3,000,000" and facts["features"] == "logmel"
    assert facts["begun from"] == "earlier weights (`--start-from`)" and facts["training time"] == "16 min on 1 core"
    assert facts["trained with"].startswith("`KERAS") and facts["trained with"].endswith("(commit 0123abc, seed 0)")
    speech = "800 utterances, 1.90 h (every speed counted: 0.9, 1 and 1.1), 2 speakers (7 and 8)"
    assert facts["training data"] == speech and facts["software"] == "Keras 3.0 on jax 0.1"
    assert facts["tested on"] == "4 utterances, 0.01 h, of 2 other speakers"
    assert facts["utterances without a wrong word, greedy"] == "0 %" and facts["written words that are right"] == "25 %"
    table = {line.split("|")[1].strip(): line for line in rates.splitlines() if line.startswith("|")}
    assert set(table) == {
        "utterances of", "---", "all", "up to 16 s", "women (1)", "men (1)", "speaker 1", "speaker 2",
    }  # fmt: skip
    cells = [cell.strip().split(" ")[0] for cell in table["women (1)"].split("|")[2:-1]]
    # 4 of 20 characters, 4 of 10 words; fused 2
    assert cells == ["2", "20.0", "40.0", "20.0"]
    assert table["all"].split("|")[3].strip().startswith("27.5 [")


def test_a_record_that_was_not_evaluated_makes_no_card(folder):
    path = write_run(folder, "bare", evaluation={})
    with pytest.raises(ValueError, match="holds no evaluation"):
        card_block(path)


def test_readme_and_card_follow_the_records(folder, tmp_path):
    card = tmp_path / "results" / "released" / "README.md"
    card.parent.mkdir()
    card.write_text("<!-- recogniser: results/final/final.json -->\n<!-- end recogniser -->\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("<!-- final: results/final -->\n<!-- end final -->\n", encoding="utf-8")
    assert len(check_project(tmp_path)) == 2
    assert update_pages(tmp_path) and not update_pages(tmp_path)
    assert check_project(tmp_path) == []
    assert (
        card_block(folder / "final.json").split() == card.read_text().split()[4:-4]
        and final_block(folder).split() == (tmp_path / "README.md").read_text().split()[4:-4]
    )
    record = json.loads((folder / "final.json").read_text())
    record["best_epoch"] = 1
    write_json(folder / "final.json", record)
    (problem,) = check_project(tmp_path)
    assert (
        problem
        == "results/released/README.md differs from the records in results/final/final.json. Run: python vui.py compare --update"
    )


def test_the_best_row_with_a_language_model_is_compared_too(tmp_path):
    write_run(tmp_path, "plain", errors=(5, 5, 5, 5), fused=(4, 4, 4, 4), cer=0.5)
    write_run(tmp_path, "letters", "--splice 0.7", errors=(2, 2, 2, 2), fused=(3, 3, 3, 3), cer=0.2, day=2)
    write_run(tmp_path, "words", "--ema 0.9", errors=(3, 3, 3, 3), fused=(1, 1, 1, 1), cer=0.3, day=3)
    block = final_block(tmp_path)
    assert "| 2 against 1 | -30.0 [-30.0, -30.0] | -20.0 [-20.0, -20.0] |" in block
    assert "| 3 against 1 | -20.0 [-20.0, -20.0] | -60.0 [-60.0, -60.0] |" in block
