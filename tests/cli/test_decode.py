"""`vui transcribe`, `vui listen` and `vui align`: texts, formats, and which decoder is used."""

import dataclasses
import io
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

from vuilab.cli import main
from vuilab.cli.decode import _targets
from vuilab.corpus.manifest import MANIFESTS


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
    assert main.main([*arguments, "--format", "json", "--out", "told"]) == 3
    captured = capsys.readouterr()
    assert captured.out == f"{clip}: {Path('told', Path(clip).stem)}.json\n"
    assert "Skipped text.flac: Cannot read" in captured.err and "Skipped none.wav: No audio file at" in captured.err
    assert len(list(Path("told").iterdir())) == 1
    assert main.main(arguments) == 3
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{clip}: ") and captured.err.count("Skipped") == 3


@pytest.mark.parametrize("form", ["json", "srt", "vtt", "textgrid"])
def test_several_files_have_a_file_each_that_holds_what_is_printed_of_one(form, project, weights, clip, capsys):
    shutil.copy(clip, "one.flac")
    shutil.copy(clip, "two.flac")
    command = ["transcribe", "one.flac", "two.flac", "--model", weights, "--format", form]
    assert main.main(command) == 0
    suffix = {"textgrid": "TextGrid"}.get(form, form)
    assert capsys.readouterr().out == f"one.flac: one.{suffix}\ntwo.flac: two.{suffix}\n"
    for name in ("one", "two"):
        assert main.main(["transcribe", f"{name}.flac", "--model", weights, "--format", form]) == 0
        assert Path(f"{name}.{suffix}").read_text() == capsys.readouterr().out


def test_files_that_are_there_are_written_over_only_when_told_to(project, weights, clip, capsys):
    shutil.copy(clip, "one.flac")
    shutil.copy(clip, "two.flac")
    Path("one.srt").write_text("mine")
    command = ["transcribe", "one.flac", "two.flac", "--model", weights, "--format", "srt"]
    assert main.main(command) == 3
    assert "Skipped one.flac: one.srt exists. Pass --force" in capsys.readouterr().err
    assert Path("one.srt").read_text() == "mine" and Path("two.srt").is_file()
    assert main.main(command) == 1  # both are there
    assert main.main([*command, "--force"]) == 0 and Path("one.srt").read_text() != "mine"
    assert main.main(["transcribe", clip, "--model", weights, "--out", "new/folder"]) == 0
    assert Path("new/folder", Path(clip).stem + ".txt").is_file()
    Path("file").write_text("")
    assert main.main(["transcribe", clip, "--model", weights, "--out", "file"]) == 1
    assert "Cannot write into file" in capsys.readouterr().err
    assert not list(project.rglob(".partial*"))


@pytest.mark.parametrize(
    ("files", "folder", "expected"),
    [
        ("a/x.wav b/y.wav", None, "a/x.srt b/y.srt"),
        ("a/x.wav a/x.mp3", None, "a/x.wav.srt a/x.mp3.srt"),
        ("a/x.wav b/x.wav", None, "a/x.srt b/x.srt"),
        ("a/x.wav b/x.wav c/y.wav", "o", "o/a/x.wav.srt o/b/x.wav.srt o/y.srt"),
        ("a/x.wav a/x.mp3 x.wav.mp3", "o", "o/a/x.wav.srt o/x.mp3.srt o/x.wav.mp3.srt"),
        ("a/x.wav ./a/x.wav a/../a/x.wav", "o", "o/x.srt"),
    ],
)
def test_no_two_recordings_share_a_file(files, folder, expected):
    found = _targets([Path(name) for name in files.split()], folder and Path(folder), "srt")
    assert [str(target) for target in found.values()] == expected.split()


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


def test_transcribe_with_a_language_model_and_hot_words(language_model, weights, clip, monkeypatch, capsys):
    command = ["transcribe", clip, "--model", weights, "--hot-words", "basket", "mill"]
    assert main.main([*command, "--lm", language_model]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    seen = []
    monkeypatch.setattr("vuilab.inference.transcribe.BeamDecoder", lambda *arguments: seen.append(arguments))
    assert main.main(command) == 0  # hot words do without a language model
    assert seen[0][0] is None and set(seen[0][2]) == {"basket", "mill"}


def test_released_weights_bring_their_language_model(released, tiny_corpus, clip, capsys):
    from vuilab.decoding.beam import BeamDecoder
    from vuilab.decoding.language_model import load_language_model
    from vuilab.decoding.settings import BeamSettings
    from vuilab.inference.transcribe import load_recogniser, released_recogniser

    recogniser = released_recogniser()
    assert recogniser.decoder.settings == BeamSettings(alpha=0.7, beta=3.0)
    decoder = BeamDecoder(load_language_model(released / "small.npz"), BeamSettings(alpha=0.7, beta=3.0))
    expected = dataclasses.replace(load_recogniser(), decoder=decoder).transcribe(clip)
    assert recogniser.transcribe(clip) == expected
    assert main.main(["transcribe", clip]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    assert main.main(["transcribe", clip, "--greedy"]) == 0
    assert capsys.readouterr().out == f"{load_recogniser().transcribe(clip)}\n"
    manifest = str(tiny_corpus / MANIFESTS["test"])
    for options, weights in (([], {"alpha": 0.7, "beta": 3.0}), (["--beta", "1"], {"alpha": 0.7, "beta": 1.0})):
        assert main.main(["evaluate", manifest, "--json", *options]) == 0
        assert json.loads(capsys.readouterr().out)["language_model"]["weights"] == weights
    assert main.main(["evaluate", manifest, "--json", "--greedy"]) == 0
    assert "language_model" not in json.loads(capsys.readouterr().out)


def test_released_weights_without_a_language_model_are_decoded_greedily(released, clip):
    from vuilab.inference.transcribe import released_language_model, released_recogniser

    (released / "small.npz").unlink()
    assert released_language_model() is None and released_recogniser().decoder is None
    (released / "recogniser.json").unlink()
    assert released_language_model() is None


def test_greedy_and_a_language_model_exclude_each_other(released, clip, capsys):
    for more in (["--lm", "lm.npz"], ["--hot-words", "basket"]):
        assert main.main(["transcribe", clip, "--greedy", *more]) == 1
        assert "--greedy decodes without --lm and --hot-words" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ listen


def test_listen_hears_a_file_in_the_microphones_place(project, weights, clip, capsys):
    arguments = ["listen", "--from", clip, "--fast", "--model", weights]
    assert main.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ("" if captured.out else "No speech was heard.\n")
    soundfile.write("noise.wav", np.random.default_rng(0).normal(0, 0.1, 32_000).clip(-1, 1), 16_000)
    assert main.main(["listen", "--from", "noise.wav", "--fast", "--seconds", "1", "--model", weights]) == 0
    assert capsys.readouterr() == ("", "No speech was heard.\n")


def test_listen_decodes_a_file_in_which_nobody_seems_to_speak_and_says_so(project, weights, capsys):
    soundfile.write("hiss.wav", 0.01 * np.random.default_rng(0).standard_normal(16_000 * 2), 16_000)
    soundfile.write("quiet.wav", np.zeros(16_000 * 2), 16_000)
    for name, notes in (("hiss.wav", 1), ("quiet.wav", 0)):
        assert main.main(["listen", "--from", name, "--fast", "--model", weights]) == 0
        told = capsys.readouterr()
        assert "No speech was heard." in told.err and told.err.count("nobody seems to speak") == notes
        assert notes or not told.out  # the model may give no letter for noise


def test_short_recordings_are_transcribed_without_a_backend(project, weights, clip):
    """Its import takes longer than the recording."""
    program = (
        "import sys; from vuilab.cli import main; status = main.main(sys.argv[1:]); "
        "print(sorted({'keras', 'tensorflow', 'jax', 'librosa', 'scipy.signal'} & set(sys.modules))); raise SystemExit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2])}
    command = [sys.executable, "-c", program, "transcribe", clip, "--model", weights]
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 0 and found.stdout.endswith("\n[]\n"), found


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


# ------------------------------------------------------------------------------------------------------- align


def test_align_gives_times_in_every_format(project, weights, clip, capsys):
    (project / "said.txt").write_text("Hi, Bo!")
    duration = soundfile.info(clip).duration
    assert main.main(["align", clip, "said.txt", "--model", weights]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["hi", "bo"]
    assert 0 <= float(lines[0].split()[0]) < float(lines[1].split()[1]) <= duration + 0.1
    assert main.main(["align", clip, "said.txt", "--model", weights, "--format", "json"]) == 0
    assert [word["text"] for word in json.loads(capsys.readouterr().out)["words"]] == ["hi", "bo"]
    for form, begin in (("srt", "1\n00:00:"), ("vtt", "WEBVTT\n"), ("textgrid", 'File type = "ooTextFile"')):
        assert main.main(["align", clip, "said.txt", "--model", weights, "--format", form]) == 0
        assert capsys.readouterr().out.startswith(begin)


def test_align_refuses_what_does_not_fit(project, weights, clip, capsys):
    (project / "long.txt").write_text("never " * 500)
    assert main.main(["align", clip, "long.txt", "--model", weights]) == 1
    assert "too short for the text" in capsys.readouterr().err
    assert main.main(["align", clip, "none.txt", "--model", weights]) == 1
    assert "No text at none.txt" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_align_normalises_as_language_models_do(encoding, project, weights, clip, capsys):
    (project / "said.txt").write_bytes("Mr. O’Neil\n& 5%".encode(encoding))
    assert main.main(["align", clip, "said.txt", "--model", weights]) == 0
    words = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert words == ["mister", "o'neil", "and", "five", "per", "cent"]


def test_align_names_the_line_that_cannot_be_spelt_and_doubts_what_does_not_fit(
    project, weights, clip, monkeypatch, capsys
):
    (project / "said.txt").write_text("Hi there\n東京!", encoding="utf-8")
    assert main.main(["align", clip, "said.txt", "--model", weights]) == 1
    assert re.search(r"said\.txt, line 2: .*東 京|said\.txt, line 2: .*京 東", capsys.readouterr().err)
    (project / "said.txt").write_text("hi")
    for doubtful, expected in ((1.0, True), (0.0, False)):
        monkeypatch.setattr("vuilab.cli.decode.DOUBTFUL", doubtful)
        assert main.main(["align", clip, "said.txt", "--model", weights]) == 0
        assert ("said.txt hardly fits" in capsys.readouterr().err) == expected


def test_names_that_the_terminal_cannot_print_stop_nothing(project, weights, clip, monkeypatch):
    names = ["日.flac", os.fsdecode(b"caf\xe9.flac")]
    for name in names:
        shutil.copy(clip, name)
    for form in ("text", "json"):
        terminal = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            assert main.main(["transcribe", *names, "--model", weights, "--format", form]) == 0
        printed = terminal.buffer.getvalue()
        assert b"\\u65e5.flac" in printed and b"caf\\udce9.flac" in printed


def test_transcribe_of_silence_is_empty_and_noise_in_which_nobody_speaks_is_decoded_with_a_note(
    project, weights, capsys
):
    soundfile.write("quiet.wav", np.zeros(16_000 * 40), 16_000)
    soundfile.write("noise.wav", 0.01 * np.random.default_rng(0).standard_normal(16_000 * 40), 16_000)
    assert main.main(["transcribe", "quiet.wav", "noise.wav", "--model", weights]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("quiet.wav: \nnoise.wav: ")
    assert told.err.count("nobody seems to speak") == 1 and "noise.wav: nobody seems to speak" in told.err
