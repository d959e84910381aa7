"""`vui evaluate`: rates, intervals, language models, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest

from vuilab.cli import main
from vuilab.corpus.manifest import MANIFESTS, read_manifest, write_manifest
from vuilab.runs.record import read_record


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
    assert main.main(["transcribe", *files, "--model", weights, "--format", "json", "--out", "told"]) == 0
    told = [json.loads((project / "told" / f"{Path(file).stem}.json").read_text()) for file in files]
    texts = [item["results"][0]["text"] for item in told]
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
    assert "100 % of the sentences, or of their runs of six words," in capsys.readouterr().err
    assert main.main([*command, "lm.arpa"]) == 0  # it does not say what it has seen
    assert "does not say which sentences" in capsys.readouterr().err


def test_named_weights_are_decoded_greedily_unless_a_language_model_is_named(released, tiny_corpus, weights, capsys):
    assert main.main(["evaluate", str(tiny_corpus / MANIFESTS["test"]), "--model", weights, "--json"]) == 0
    assert "language_model" not in json.loads(capsys.readouterr().out)


def test_models_that_know_phonemes_are_read_by_both(phonetic, tiny_corpus, clip, capsys):
    from vuilab.decoding.settings import SoundWeights
    from vuilab.decoding.sounds import SoundDecoder
    from vuilab.inference.transcribe import load_recogniser, released_recogniser
    from vuilab.models.ctc import needs_phonemes

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
    assert needs_phonemes(load_recogniser().model)


def test_a_model_of_characters_reads_letters_alone_where_phonemes_are_known_too(phonetic, project, tiny_corpus, clip):
    (project / "book.txt").write_text("One two three four. Five six seven.")
    assert main.main(["lm", "train", "book.txt", "--order", "6", "--characters", "--out", "letters.npz"]) == 0
    command = ["--model", str(phonetic / "recogniser.h5"), "--lm", "letters.npz"]
    assert main.main(["transcribe", clip, *command]) == 0
    assert main.main(["evaluate", str(tiny_corpus / MANIFESTS["test"]), *command, "--record"]) == 0
    found = read_record(phonetic / "recogniser.json")["character_evaluation"]
    assert "phonemes" not in found["language_model"]
    assert set(found["utterances"]) == {"seconds", "greedy", "with language model"}
