"""The command line around decoding: language models, evaluation with them, word times."""

import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from vuilab.cli import main
from vuilab.corpus.manifest import MANIFESTS, read_manifest, set_active_corpus
from vuilab.runs.record import read_record


@pytest.fixture(autouse=True)
def corpus_of_each_test_its_own():
    set_active_corpus(None)
    yield
    set_active_corpus(None)


# --------------------------------------------------------------------------------------------------- language models


@pytest.fixture
def language_model(project, capsys) -> str:
    """A bigram model of sentences that the tiny corpus does not hold."""
    (project / "book.txt").write_text(
        "She left the basket at the mill. Turn left at the door!\n\nHe was learning to read."
    )
    assert main.main(["lm", "train", "book.txt", "--order", "2", "--out", "lm.npz"]) == 0
    assert re.search(r"lm\.npz: 3 sentences, \d+ 1-grams, \d+ 2-grams \(0\.0 MB\)", capsys.readouterr().out)
    return "lm.npz"


def test_evaluate_with_a_language_model_prints_both_rates_and_their_difference(
    language_model, tiny_corpus, weights, capsys
):
    manifest = str(tiny_corpus / MANIFESTS["test"])
    command = ["evaluate", manifest, "--model", weights, "--lm", language_model, "--alpha", "0.5", "--beam-width", "5"]
    assert main.main(command) == 0
    printed = capsys.readouterr().out
    assert "-- greedy" in printed and "-- with language model" in printed
    assert "Weights: {'alpha': 0.5, 'beta': 1.0}" in printed
    assert re.search(r"changes the WER by [+-]\d+\.\d points \[[+-]\d+\.\d, [+-]\d+\.\d\]", printed)
    assert main.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["language_model"]
    assert found["file"] == "lm.npz" and found["order"] == 2 and found["chosen"] == "by hand"
    assert set(found["wer_difference"]) == {"difference", "low", "high"} and "rate" in found["wer"]


def test_evaluate_judges_the_confidence_of_words(language_model, tiny_corpus, weights, capsys):
    command = ["evaluate", str(tiny_corpus / MANIFESTS["test"]), "--model", weights]
    assert main.main(command) == 0
    assert "Word confidence" in capsys.readouterr().out
    assert main.main([*command, "--lm", language_model, "--beta", "9", "--json"]) == 0  # a model that writes words
    found = json.loads(capsys.readouterr().out)
    for part in (found, found["language_model"]):
        assert set(part["word_confidence"]) == {"num_words", "share_right", "auc", "calibration_error"}


def test_evaluate_records_its_result_beside_the_weights(language_model, tiny_corpus, trained, tmp_path, capsys):
    shutil.copytree(trained / "results", tmp_path / "copy")
    weights, manifest = tmp_path / "copy" / "tiny.h5", str(tiny_corpus / MANIFESTS["test"])
    before = read_record(weights.with_suffix(".json"))
    command = ["evaluate", manifest, "--model", str(weights), "--lm", language_model, "--beam-width", "5", "--record"]
    assert main.main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    record = read_record(weights.with_suffix(".json"))
    evaluation = record.pop("evaluation")
    assert record == before
    assert {key: evaluation[key] for key in printed} == printed and evaluation["commit"]
    assert json.loads((tmp_path / "copy" / "ledger.jsonl").read_text().splitlines()[-1])["evaluation"] == evaluation

    weights.with_suffix(".json").unlink()
    assert main.main(command) == 1
    assert "there is none at" in capsys.readouterr().err


def test_an_evaluation_with_a_model_of_characters_stands_beside_the_other(project, tiny_corpus, trained, capsys):
    shutil.copytree(trained / "results", project / "copy")
    (project / "book.txt").write_text("One two three four. Five six seven.")
    assert main.main(["lm", "train", "book.txt", "--order", "8", "--characters", "--out", "letters.npz"]) == 0
    assert "8-grams" in capsys.readouterr().out
    weights = project / "copy" / "tiny.h5"
    command = ["evaluate", str(tiny_corpus / MANIFESTS["test"]), "--model", str(weights), "--lm", "letters.npz"]
    assert main.main([*command, "--record", "--json"]) == 0
    printed, record = json.loads(capsys.readouterr().out), read_record(weights.with_suffix(".json"))
    assert "evaluation" not in record
    assert record["character_evaluation"]["language_model"] == printed["language_model"]
    assert printed["language_model"]["order"] == 8


def test_evaluate_tunes_leaving_one_speaker_out(language_model, tiny_corpus, weights, monkeypatch, capsys):
    from vuilab.scoring import tuning

    monkeypatch.setattr(tuning.tune, "__defaults__", (None, (0.0, 1.0), (0.0,), False))
    manifest = str(tiny_corpus / MANIFESTS["test"])
    assert main.main(["evaluate", manifest, "--model", weights, "--lm", language_model, "--tune", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["language_model"]
    speakers = {item.speaker for item in read_manifest(tiny_corpus / MANIFESTS["test"])}
    assert set(found["weights"]) == speakers and found["chosen"] == "leaving one speaker out"
    assert set(found["for_other_recordings"]) == {"alpha", "beta"}


def test_a_language_model_that_knows_the_sentences_is_refused(project, make_corpus, weights, capsys):
    sentence = "a sentence of six words exactly"
    corpus = make_corpus({"test": [(sentence, 0.6), ("another one", 0.5)]})
    (project / "book.txt").write_text(f"{sentence}.")
    assert main.main(["lm", "train", "book.txt", "--order", "2", "--out", "lm.npz"]) == 0
    assert main.main(["lm", "train", "book.txt", "--order", "2", "--out", "lm.arpa"]) == 0
    command = ["evaluate", str(corpus / MANIFESTS["test"]), "--model", weights, "--lm"]
    assert main.main([*command, "lm.npz"]) == 1
    assert "100 % of the sentences of six words or more" in capsys.readouterr().err
    assert main.main([*command, "lm.arpa"]) == 0  # it does not say what it has seen
    assert "does not say which sentences" in capsys.readouterr().err


def test_lm_perplexity_of_a_text_and_of_a_manifest(language_model, project, tiny_corpus, capsys):
    (project / "other.txt").write_text("She left the mill.")
    assert main.main(["lm", "perplexity", language_model, "other.txt"]) == 0
    assert re.search(r"1 sentences, 4 words, 0 unknown \(0\.0 %\); perplexity \d+\.\d", capsys.readouterr().out)
    assert main.main(["lm", "perplexity", language_model, str(tiny_corpus / MANIFESTS["test"])]) == 0
    assert re.search(r"10 sentences, \d+ words, \d+ unknown", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("lm train missing.txt --out lm.npz", "No text at missing.txt"),
        ("lm train book.txt --out lm.txt", r"ends in \.npz, \.arpa or \.arpa\.gz"),
        ("lm train book.txt --order 11 --out lm.npz", "order must be in 1..10"),
        ("lm perplexity nothing.npz book.txt", "No language model at nothing.npz"),
        ("evaluate MANIFEST --model x.h5 --tune", "--tune chooses the weights of a language model"),
        ("evaluate MANIFEST --model x.h5 --lm nothing.npz", "No language model at nothing.npz"),
    ],
)
def test_language_model_commands_say_what_is_wrong(command, message, project, tiny_corpus, capsys):
    (project / "book.txt").write_text("Hello there.")
    command = command.replace("MANIFEST", str(tiny_corpus / MANIFESTS["test"]))
    assert main.main(command.split()) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (project / "lm.npz").exists()


def test_transcribe_with_a_language_model_and_hot_words(language_model, weights, clip, monkeypatch, capsys):
    command = ["transcribe", clip, "--model", weights, "--hot-words", "basket", "mill"]
    assert main.main([*command, "--lm", language_model]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    seen = []
    monkeypatch.setattr("vuilab.decoding.beam.BeamDecoder", lambda *arguments: seen.append(arguments))
    assert main.main(command) == 0  # hot words do without a language model
    assert seen[0][0] is None and set(seen[0][2]) == {"basket", "mill"}


# ---------------------------------------------------------------------------------------------------------- times


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


def test_transcribe_of_a_recording_in_which_nobody_speaks_is_empty(project, weights, capsys):
    soundfile.write("quiet.wav", np.zeros(16_000 * 3), 16_000)
    soundfile.write("long.wav", 0.01 * np.random.default_rng(0).standard_normal(16_000 * 40), 16_000)
    assert main.main(["transcribe", "quiet.wav", "long.wav", "--model", weights]) == 0
    assert capsys.readouterr().out == "quiet.wav: \nlong.wav: \n"


# --------------------------------------------------------------------------------------------------- released weights


@pytest.fixture
def released(language_model, tiny_corpus, trained, project, monkeypatch, capsys):
    """A project whose released weights were evaluated with a language model beside them."""
    from vuilab.inference import transcribe
    from vuilab.scoring import tuning

    folder = project / "results" / "released"
    folder.mkdir(parents=True)
    for suffix in (".h5", ".json"):
        shutil.copy(trained / "results" / f"tiny{suffix}", folder / f"recogniser{suffix}")
    shutil.copy(language_model, folder / "small.npz")
    monkeypatch.setattr(transcribe, "released_folder", lambda: folder)
    monkeypatch.setattr(tuning.tune, "__defaults__", (None, (0.7,), (3.0,), False))
    command = [
        "evaluate",
        str(tiny_corpus / MANIFESTS["test"]),
        "--lm",
        str(folder / "small.npz"),
        "--tune",
        "--record",
    ]
    assert main.main(command) == 0
    capsys.readouterr()
    return folder


def test_released_weights_bring_their_language_model(released, tiny_corpus, clip, capsys):
    from vuilab.decoding.beam import BeamDecoder
    from vuilab.decoding.language_model import load_language_model
    from vuilab.decoding.settings import BeamSettings
    from vuilab.inference.transcribe import load_recogniser, released_recogniser

    recogniser = released_recogniser()
    assert recogniser.decoder.settings == BeamSettings(alpha=0.7, beta=3.0)
    decoder = BeamDecoder(load_language_model(released / "small.npz"), BeamSettings(alpha=0.7, beta=3.0))
    expected = load_recogniser().with_decoder(decoder).transcribe(clip)
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


def test_named_weights_are_decoded_greedily_unless_a_language_model_is_named(released, tiny_corpus, weights, capsys):
    assert main.main(["evaluate", str(tiny_corpus / MANIFESTS["test"]), "--model", weights, "--json"]) == 0
    assert "language_model" not in json.loads(capsys.readouterr().out)


def test_released_weights_without_a_language_model_are_decoded_greedily(released, clip):
    from vuilab.inference.transcribe import released_language_model, released_recogniser

    (released / "small.npz").unlink()
    assert released_language_model() is None and released_recogniser().decoder is None
    (released / "recogniser.json").unlink()
    assert released_language_model() is None


@pytest.fixture
def phonetic(released, monkeypatch):
    """Released weights that know phonemes, untrained, with an evaluation of their own."""
    import keras

    from vuilab.models.residual_birnn import residual_birnn_model
    from vuilab.runs.weights import save_weights
    from vuilab.scoring import tuning

    keras.utils.set_random_seed(0)
    model = residual_birnn_model(units=4, filters=4, recur_layers=2, phoneme_heads=(1,), print_summary=False)
    save_weights(model, released / "recogniser.h5", {"features": {"kind": "logmel"}})
    monkeypatch.setattr(tuning.tune_sounds, "__defaults__", ((0.4,), (0.6,), (2.0,)))
    return released


def test_models_that_know_phonemes_are_read_by_both(phonetic, tiny_corpus, clip, capsys):
    from vuilab.decoding.settings import SoundWeights
    from vuilab.decoding.sounds import SoundDecoder
    from vuilab.inference.transcribe import load_recogniser, released_recogniser

    manifest, lm = str(tiny_corpus / MANIFESTS["test"]), str(phonetic / "small.npz")
    assert main.main(["evaluate", manifest, "--lm", lm, "--tune", "--record"]) == 0
    printed = capsys.readouterr().out
    assert "-- with language model and phonemes" in printed and "Reading phonemes too changes the WER" in printed
    evaluation = read_record(phonetic / "recogniser.json")["evaluation"]
    sounds = evaluation["language_model"]["phonemes"]
    assert sounds["for_other_recordings"] == {"phonemes": 0.4, "alpha": 0.6, "beta": 2.0}
    assert {"cer", "wer", "wer_difference", "word_confidence"} <= set(sounds)
    assert set(evaluation["utterances"]) > {"greedy", "with language model", "with language model and phonemes"}

    recogniser = released_recogniser()  # what was recorded is what the released weights are decoded with
    assert isinstance(recogniser.decoder, SoundDecoder) and recogniser.decoder.weights == SoundWeights(0.4, 0.6, 2.0)
    assert main.main(["transcribe", clip]) == 0
    assert capsys.readouterr().out == f"{recogniser.transcribe(clip)}\n"
    assert main.main(["evaluate", manifest, "--json", "--alpha", "1"]) == 0
    found = json.loads(capsys.readouterr().out)["language_model"]
    assert found["weights"] == {"alpha": 1.0, "beta": 3.0}
    assert found["phonemes"]["weights"] == {"phonemes": 0.4, "alpha": 1.0, "beta": 2.0}
    assert main.main(["evaluate", manifest, "--json", "--phonemes", "0"]) == 0
    assert "phonemes" not in json.loads(capsys.readouterr().out)["language_model"]
    assert main.main(["transcribe", clip, "--phonemes", "2"]) == 1
    assert "The weight of the phonemes is in 0..1" in capsys.readouterr().err
    assert load_recogniser().knows_phonemes


def test_a_model_of_characters_reads_letters_alone_where_phonemes_are_known_too(phonetic, project, tiny_corpus, clip):
    (project / "book.txt").write_text("One two three four. Five six seven.")
    assert main.main(["lm", "train", "book.txt", "--order", "6", "--characters", "--out", "letters.npz"]) == 0
    command = ["--model", str(phonetic / "recogniser.h5"), "--lm", "letters.npz"]
    assert main.main(["transcribe", clip, *command]) == 0
    assert main.main(["evaluate", str(tiny_corpus / MANIFESTS["test"]), *command, "--record"]) == 0
    found = read_record(phonetic / "recogniser.json")["character_evaluation"]
    assert "phonemes" not in found["language_model"]
    assert set(found["utterances"]) == {"seconds", "greedy", "with language model"}


def test_greedy_and_a_language_model_exclude_each_other(released, clip, capsys):
    for more in (["--lm", "lm.npz"], ["--hot-words", "basket"]):
        assert main.main(["transcribe", clip, "--greedy", *more]) == 1
        assert "--greedy decodes without --lm and --hot-words" in capsys.readouterr().err
