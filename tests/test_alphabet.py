"""The alphabet, against the table in the specification: apostrophe, space, a-z, and the blank last; and another one."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vuilab.alphabet import BLANK, ENGLISH, NUM_CLASSES, alphabet_of, char_map, current, index_map, using
from vuilab.cli.main import main
from vuilab.corpus.books import sentences_of
from vuilab.corpus.manifest import MANIFESTS, read_manifest
from vuilab.files import repository
from vuilab.runs.weights_file import read_metadata
from vuilab.text import normalize, unspelt


def test_the_classes_are_apostrophe_space_and_the_letters_in_order():
    assert char_map["'"] == 0
    assert char_map[" "] == 1
    assert [char_map[letter] for letter in "abcdefghijklmnopqrstuvwxyz"] == list(range(2, 28))
    assert len(char_map) == 28


def test_the_blank_is_the_29th_and_last_class():
    assert (BLANK, NUM_CLASSES) == (28, 29)
    assert BLANK not in index_map


def test_the_two_maps_are_each_other_s_inverse():
    assert {index_map[index]: index for index in range(28)} == char_map


# ------------------------------------------------------------------------------------------------ another alphabet

GERMAN = "abcdefghijklmnopqrstuvwxyzäöüß"
TONES = {letter: 300 * 1.3**number for number, letter in enumerate("aoäöüß ")}  # Hz


def corpus_of_tones(folder: Path) -> None:
    """Write recordings in which each letter is a tone, with texts in another alphabet, one of them in capitals."""
    rng, time = np.random.default_rng(0), np.arange(3200) / 16_000
    for name in MANIFESTS.values():
        lines = []
        for number in range(60 if name == MANIFESTS["train"] else 10):
            text = " ".join("".join(rng.permutation(list("aoäöüß"))[:length]) for length in (3, 2))
            sound = np.concatenate([0.3 * np.sin(2 * np.pi * TONES[letter] * time) for letter in text])
            path = folder / f"{name[:5]}-{number}.wav"
            soundfile.write(path, sound + 0.001 * rng.standard_normal(len(sound)), 16_000)
            lines.append({"key": path.name, "duration": len(sound) / 16_000, "speaker": name[:2], "text": text})
        lines[0]["text"] = unicodedata.normalize("NFD", lines[0]["text"].upper().replace("SS", "ẞ"))
        (folder / name).write_text("\n".join(map(json.dumps, lines)))


CHAIN = """
import sys
import keras
from sample_models import acoustic_model
from vuilab.alphabet import NUM_CLASSES
from vuilab.cli.main import main

def tones(input_dim, output_dim=NUM_CLASSES):
    x = the_input = keras.Input(shape=(None, input_dim), name="the_input")
    x = keras.layers.Conv1D(32, 5, strides=5, padding="same", activation="relu")(x)
    return acoustic_model(the_input, keras.layers.Dense(output_dim)(x), "tones", print_summary=False)

train = "train tones --features spectrogram --corpus . --epochs 5 --optimizer adamw --learning-rate 0.02 --batch-size 4"
for line in [train, *sys.argv[1:]]:
    print("##", line.split()[0], flush=True)
    assert main(line.split(), lambda: {"tones": tones}) == 0, line
"""


@pytest.mark.contract
def test_another_alphabet_is_one_setting_and_weights_carry_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    corpus_of_tones(tmp_path)
    words = [item["text"] for item in map(json.loads, (tmp_path / MANIFESTS["train"]).read_text().splitlines()[1:])]
    Path("text.txt").write_text("\n".join(words))
    clip, model = "test_-3.wav", "results/tones.h5"
    said = json.loads((tmp_path / MANIFESTS["test"]).read_text().splitlines()[3])["text"]
    Path("said.txt").write_text(said.upper().replace("SS", "ẞ") + "!", encoding="utf-16")
    lines = [
        f"evaluate {tmp_path}/{MANIFESTS['test']} --model {model} --json",
        f"transcribe {clip} --model {model}",
        "lm train text.txt --order 2 --out lm.npz",
        f"evaluate {tmp_path}/{MANIFESTS['test']} --model {model} --lm lm.npz --json",
        f"align {clip} said.txt --model {model} --format json",
    ]
    environment = os.environ | {"VUI_ALPHABET": GERMAN, "PYTHONPATH": str(repository())}
    command = [sys.executable, "-c", CHAIN, *lines]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert found.returncode == 0, found.stdout[-500:] + found.stderr[-2000:]
    parts = dict(part.split("\n", 1) for part in found.stdout.split("## ")[1:])
    assert parts["transcribe"].strip() == said
    assert read_metadata(model)["alphabet"] == alphabet_of(GERMAN) == "' " + GERMAN
    assert current() == ENGLISH  # here nothing is set: the weights know
    assert main(["transcribe", clip, "--model", model]) == 0
    assert capsys.readouterr().out.strip() == said
    assert main(lines[-1].split()) == 0
    assert [word["text"] for word in json.loads(capsys.readouterr().out)["words"]] == said.split()
    assert main(lines[0].split()) == 0
    assert json.loads(capsys.readouterr().out)["cer"]["rate"] < 0.1


def test_letters_outside_the_alphabet_are_reported_with_their_line(tmp_path):
    texts = ["grüße", "καλή μέρα", "schön"]
    entries = [{"key": f"{number}.wav", "duration": 1, "text": text} for number, text in enumerate(texts)]
    (tmp_path / "m.json").write_text("\n".join(map(json.dumps, entries)))
    with using(GERMAN), pytest.raises(ValueError, match=r"m\.json, line 2: .*without a spelling in the alphabet: .*α"):
        read_manifest(tmp_path / "m.json")
    with (
        using("αβγδεζηθικλμνξοπρστυφχψωςήέ"),
        pytest.raises(ValueError, match=r"m\.json, line 1: .*alphabet: e g r s u"),
    ):
        read_manifest(tmp_path / "m.json")


def test_the_normaliser_keeps_the_letters_of_the_alphabet_and_speaks_no_english():
    with using(GERMAN):
        assert normalize("Größe, ÜBER’M „Café“ — A\u0308pfel!") == "größe über'm cafe äpfel"
        assert unspelt("Größe 5 % & mehr") == ["%", "&", "5"]
        assert list(sentences_of("Er sah\nden Zug. Über\nden Fluss? Ja.")) == ["er sah den zug", "über den fluss", "ja"]
    assert normalize("Größe, 5 %") == "grosse five per cent"


@pytest.mark.parametrize("letters", ["", "abca", "ABC", "ab c", "ab1", "a,b", None, 7])
def test_what_is_no_alphabet_is_refused(letters):
    with pytest.raises(ValueError, match=rf"An alphabet is different small letters.*Received: {letters!r}"):
        alphabet_of(letters)


def test_a_setting_that_is_no_alphabet_is_an_error_of_the_command(tmp_path):
    command = [
        sys.executable,
        "-c",
        "from vuilab.cli.main import main; raise SystemExit(main(['lm', 'train', 't', '--out', 'o']))",
    ]
    environment = os.environ | {"VUI_ALPHABET": "a b", "PYTHONPATH": str(repository())}
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 1 and found.stderr.startswith("Error: An alphabet is different small letters")
