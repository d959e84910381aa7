"""The command line: every command on the tiny corpus, its exit status, and what it prints."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_training import TRAIN

from vuilab.cli import commands, main
from vuilab.corpus.manifest import MANIFESTS, read_manifest, set_active_corpus, write_manifest
from vuilab.files import repository

ROOT = repository()
COMMANDS = [
    "data",
    "train",
    "evaluate",
    "transcribe",
    "listen",
    "align",
    "lm",
    "keywords",
    "spot",
    "study",
    "compare",
    "report",
    "export",
]


@pytest.fixture(autouse=True)
def corpus_of_each_test_its_own():
    set_active_corpus(None)
    yield
    set_active_corpus(None)


# ------------------------------------------------------------------------------------------------------ help, usage


def test_help_of_every_command_loads_no_deep_learning_backend():
    code = f"""
import contextlib, io, sys, vui
for command in {[[], *([name] for name in COMMANDS), ["data", "demo"], ["data", "index"], ["data", "librispeech"]]}:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        vui.main([*command, "--help"])
    assert "usage: vui.py" in out.getvalue()
print(sorted({{"tensorflow", "keras", "jax", "torch"}} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{command} +\w", printed, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["data"], ["train"], ["evaluate"], ["transcribe"], ["export", "x.h5"], ["train", "x", "--no"]],
)
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 2
    assert "usage: vui.py" in capsys.readouterr().err


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


# ------------------------------------------------------------------------------------------------------------- data


def test_data_demo_makes_the_corpus_and_leaves_it_when_it_is_there(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main.main(["data", "demo", "--out", str(out), "--scale", "tiny"]) == 0
    assert [len(read_manifest(out / name)) for name in MANIFESTS.values()] == [44, 6, 10]
    capsys.readouterr()
    assert main.main(["data", "demo", "--out", str(out), "--scale", "tiny"]) == 0
    assert "already there with these settings, nothing made" in capsys.readouterr().out


def test_data_demo_never_overwrites_a_users_folder(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("my own work")
    assert main.main(["data", "demo", "--out", str(tmp_path), "--scale", "tiny"]) == 1
    assert "is not a demo corpus" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir() if not item.name.startswith(".")] == ["mine.txt"]


def test_data_index_writes_manifests_with_the_speakers_asked_for(tiny_corpus, tmp_path, capsys):
    tree = tiny_corpus / "demo-train"
    speakers = sorted(path.name for path in tree.iterdir() if path.is_dir())
    out = tmp_path / "indexed"
    command = [
        "data",
        "index",
        str(tree),
        "--out",
        str(out),
        "--valid-speakers",
        speakers[0],
        "--test-speakers",
        speakers[1],
    ]
    assert main.main(command) == 0
    parts = {split: {item.speaker for item in read_manifest(out / name)} for split, name in MANIFESTS.items()}
    assert parts == {"validation": {speakers[0]}, "test": {speakers[1]}, "train": set(speakers[2:])}
    assert main.main(["data", "index", str(tmp_path / "none"), "--out", str(out)]) == 1
    assert "none" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ train


def test_train_leaves_history_weights_and_record(trained, tiny_corpus):
    folder = trained / "results"
    assert {path.name for path in folder.iterdir()} >= {"tiny.h5", "tiny.json", "tiny.pickle", "ledger.jsonl"}
    record = json.loads((folder / "tiny.json").read_text())
    assert record["configuration"]["features"]["kind"] == "mfcc" and record["epochs"] == 1
    assert record["corpus"]["train"]["num_speakers"] >= 2


def test_train_again_loads_the_finished_run(trained, tiny_corpus, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    assert main.main([*TRAIN.split(), "--corpus", str(tiny_corpus)]) == 0
    printed = capsys.readouterr().out
    assert "tiny was trained before with the same settings and data" in printed
    assert "Weights: results/tiny.h5   record: results/tiny.json" in printed


def test_train_passes_every_option_on(project, monkeypatch):
    from vuilab.training import recogniser

    passed = {}
    monkeypatch.setattr(recogniser, "train_model", lambda model, *paths, **options: passed.update(options, paths=paths))
    command = (
        "train model_2 --name try --epochs 7 --features mfcc --mfcc-dim 20 --batch-size 9 --max-duration 4 --optimizer adamw "
        "--learning-rate 0.003 --schedule cosine --warmup-epochs 0.5 --augment --monitor val_cer --speeds 0.9 1.1 --ema 0.99 "
        "--sort-by-duration --seed 3 --force --resume --patience 5 "
        "--start-from first.h5 --plan 100 960 --splice 0.7"
    )
    assert main.main(command.split()) == 0
    assert [path.as_posix() for path in passed.pop("paths")] == ["results/try.pickle", "results/try.h5"]
    optimizer, augmentation, settings = (passed.pop(name) for name in ("optimizer", "augmentation", "features"))
    assert type(optimizer).__name__ == "AdamW" and float(optimizer.learning_rate) == pytest.approx(0.003)
    assert augmentation.warp == 0  # of cepstral coefficients there is no frequency axis to stretch
    assert (settings.kind, settings.mfcc_dim) == ("mfcc", 20)
    assert passed == {
        "start_from": Path("first.h5"),
        "plan": [100.0, 960.0],
        "minibatch_size": 9,
        "epochs": 7,
        "sort_by_duration": True,
        "max_duration": 4.0,
        "schedule": "cosine",
        "warmup_epochs": 0.5,
        "speeds": [0.9, 1.1],
        "splice": 0.7,
        "ema": 0.99,
        "monitor": "val_cer",
        "seed": 3,
        "force": True,
        "resume": True,
        "patience": 5,
        "notes": None,
    }


def test_train_takes_a_run_name_of_the_study(project, monkeypatch, capsys):
    from vuilab.training import recogniser

    seen = []
    monkeypatch.setattr(recogniser, "train_model", lambda model, *paths, **options: seen.append((model, options)))
    name = "MFCC GRU(30 x1) BN relu DO(0.2) TD(D)"
    assert main.main(["train", name]) == 1 and "--name" in capsys.readouterr().err
    assert main.main(["train", name, "--name", "mine", "--mfcc-dim", "26"]) == 0
    model, options = seen[0]
    assert model.input_shape[-1] == 26 and options["features"].kind == "mfcc"
    assert options["notes"] == {"full_name": name}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("train model_9", r"Unknown model 'model_9'\. Expected one of: model_0, model_1"),
        ("train model_0 --corpus nowhere", r"No manifest at nowhere/train_corpus\.json\. Make the demo corpus"),
        ("train model_0 --epochs 0", r"epochs must be at least 1"),
        ("train model_0 --learning-rate 0", r"--learning-rate must be positive\. Received: 0\.0"),
        ("train model_0 --patience 0", r"patience must be at least 1, or None"),
        ("train model_0 --batch-size 0", r"minibatch_size must be at least 1"),
    ],
)
def test_train_refuses_what_it_cannot_do(arguments, message, project, capsys):
    assert main.main(arguments.split()) == 1
    assert re.search("Error: .*" + message, capsys.readouterr().err)
    assert not list(project.rglob("*.h5"))


# --------------------------------------------------------------------------------------------------------- evaluate


def test_evaluate_prints_rates_errors_intervals_and_speakers(project, tiny_corpus, weights, capsys):
    assert main.main(["evaluate", str(tiny_corpus / MANIFESTS["test"]), "--model", weights]) == 0
    printed = capsys.readouterr().out
    number = r"\d+\.\d %"
    assert re.search(r"^10 utterances, \d+ speakers, \d+ empty hypotheses$", printed, re.MULTILINE)
    for kind in ("CER", "WER"):
        assert re.search(
            rf"^{kind} {number} \[\d+\.\d, \d+\.\d\]  \(\d+ substitutions, \d+ deletions, \d+ insertions, \d+ in all\)$",
            printed,
            re.MULTILINE,
        )
    assert "95 % intervals: bootstrap over" in printed
    speakers = {item.speaker for item in read_manifest(tiny_corpus / MANIFESTS["test"])}
    assert {name for name in re.findall(rf"speaker (\S+): CER {number}, WER {number}", printed)} == speakers


def test_evaluate_json_is_versioned_pure_and_agrees_with_jiwer(project, tiny_corpus, weights, capsys):
    import jiwer

    manifest = tiny_corpus / MANIFESTS["test"]
    assert main.main(["evaluate", str(manifest), "--model", weights, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["version"] == 1 and result["num_utterances"] == 10 and result["manifest"] == str(manifest)
    assert 0 <= result["empty_share"] <= 1 and set(result["by_speaker"])
    files = [str(item.path) for item in read_manifest(manifest)]
    assert main.main(["transcribe", *files, "--model", weights, "--format", "json"]) == 0
    texts = [item["text"] for item in json.loads(capsys.readouterr().out)["results"]]
    true = [item.text for item in read_manifest(manifest)]
    # transcribe reads one clip at a time in float32, evaluate in batches from the float16 cache: allow a letter or two
    assert result["cer"]["rate"] == pytest.approx(jiwer.cer(true, texts), abs=0.01)
    assert result["wer"]["rate"] == pytest.approx(jiwer.wer(true, texts), abs=0.03)
    each = result["utterances"]
    assert sum(map(float, each["seconds"].split())) == pytest.approx(
        sum(item.duration for item in read_manifest(manifest)), abs=0.1
    )
    errors = sum(map(int, each["greedy"]["word_errors"].split())) / sum(map(int, each["greedy"]["words"].split()))
    assert errors == pytest.approx(result["wer"]["rate"])
    assert set(result["sex"]) == set(result["by_speaker"]) and set(result["sex"].values()) <= {"M", "F"}


def test_evaluate_refuses_speakers_that_the_model_was_trained_on(project, tiny_corpus, weights, tmp_path, capsys):
    few = tmp_path / "few.json"
    write_manifest(few, read_manifest(tiny_corpus / MANIFESTS["train"])[:3])
    assert main.main(["evaluate", str(few), "--model", weights]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(r"Error: The model was trained on \d of these speakers .*--allow-training-speakers", captured.err)
    assert main.main(["evaluate", str(few), "--model", weights, "--allow-training-speakers"]) == 0
    assert "3 utterances" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------- transcribe


def test_transcribe_prints_the_text_alone_for_one_file_and_with_names_for_more(project, weights, clip, capsys):
    assert main.main(["transcribe", clip, "--model", weights]) == 0
    text = capsys.readouterr().out
    assert text.endswith("\n") and clip not in text
    assert main.main(["transcribe", clip, clip, "--model", weights]) == 0
    assert capsys.readouterr().out == f"{clip}: {text}" * 2


def test_transcribe_skips_and_lists_what_it_cannot_read(project, weights, clip, capsys):
    Path("text.flac").write_text("no audio")
    soundfile.write("short.flac", [0.0] * 50, 16_000)
    arguments = ["transcribe", "text.flac", clip, "none.wav", "short.flac", "--model", weights]
    assert main.main([*arguments, "--format", "json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["version"] == 1
    assert [item["file"] for item in result["results"]] == [clip]
    assert [item["file"] for item in result["skipped"]] == ["text.flac", "none.wav", "short.flac"]
    assert "Skipped text.flac: Cannot read" in captured.err and "Skipped none.wav: No audio file at" in captured.err
    assert main.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{clip}: ") and captured.err.count("Skipped") == 3


@pytest.mark.parametrize("form", ["text", "json"])
def test_transcribe_ends_with_status_1_only_when_nothing_succeeded(form, project, weights, capsys):
    assert main.main(["transcribe", "none.wav", "also-none.wav", "--model", weights, "--format", form]) == 1
    assert capsys.readouterr().err.count("Skipped") == 2


def test_transcribe_without_weights_names_train(project, clip, monkeypatch, capsys):
    from vuilab.inference import transcribe

    monkeypatch.setattr(transcribe, "released_folder", lambda: project)
    assert main.main(["transcribe", clip]) == 1
    assert re.search(r"(?s)Error: There are no released weights yet.*vui\.py train", capsys.readouterr().err)
    assert main.main(["transcribe", clip, "--model", "none.h5"]) == 1
    assert "No weights at none.h5. Train a model first: python vui.py train MODEL" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- listen


def test_listen_hears_a_file_in_the_microphones_place(project, weights, clip, capsys):
    arguments = ["listen", "--from", clip, "--fast", "--model", weights]
    assert main.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ("" if captured.out else "No speech was heard.\n")
    soundfile.write("noise.wav", np.random.default_rng(0).normal(0, 0.1, 32_000).clip(-1, 1), 16_000)
    assert main.main(["listen", "--from", "noise.wav", "--fast", "--seconds", "1", "--model", weights]) == 0
    assert capsys.readouterr() == ("", "No speech was heard.\n")


def test_listen_says_what_is_missing_before_a_model_is_loaded(project, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    for arguments, message in [
        ([], r"Error: The microphone needs the package sounddevice.*vui\.py transcribe FILE"),
        (["--from", "none.wav"], r"Error: No audio file at none\.wav"),
        (["--fast"], r"Error: --fast goes with --from FILE"),
    ]:
        assert main.main(["listen", "--model", "none.h5", *arguments]) == 1
        captured = capsys.readouterr()
        assert re.search(message, captured.err) and captured.out == ""


def test_listen_refuses_what_is_no_audio(project, weights, capsys):
    Path("text.wav").write_text("no audio")
    assert main.main(["listen", "--from", "text.wav", "--fast", "--model", weights]) == 1
    assert "Error: Cannot read text.wav as audio" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- compare


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


# ------------------------------------------------------------------------------------------------- report, and stopping


def test_report_without_notebook_is_an_error(project, capsys):
    assert main.main(["report", "none.ipynb"]) == 1
    assert "Error: No notebook at none.ipynb" in capsys.readouterr().err


def test_report_with_a_failing_cell_ends_with_status_1(project, capsys):
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, "failing.ipynb")
    command = [sys.executable, str(ROOT / "vui.py"), "report", "failing.ipynb"]
    result = subprocess.run(command, cwd=project, env={**os.environ}, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "Error: A cell of failing.ipynb failed" in result.stderr and "ZeroDivisionError" in result.stderr
    assert not (project / "results" / "failing.html").exists()


def test_ctrl_c_ends_with_the_status_of_a_signal(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "compare", interrupted)
    assert main.main(["compare"]) == 130
    assert capsys.readouterr().err == "Stopped by hand.\n"


# ------------------------------------------------------------------------------------------------------------ study


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
