"""Error rates against jiwer and brute force, intervals against simulation, and predictions against a hand-made forward pass."""

import dataclasses
import itertools
import json
import math

import IPython.display
import jiwer
import keras
import numpy as np
import pytest
import python_speech_features
import soundfile

from sample_models import cnn_rnn_model, simple_rnn_model
from vuilab.alphabet import ALPHABET
from vuilab.audio import read_audio
from vuilab.data.generator import BatchGenerator
from vuilab.features import FeatureSettings
from vuilab.runs.record import results_path
from vuilab.runs.weights import save_weights
from vuilab.scoring.error_rates import (
    ErrorCounts,
    confusions,
    count_errors,
    count_matrix,
    edit_counts,
    marked,
    paired_difference,
    score,
)
from vuilab.scoring.predictions import (
    audio_player,
    feature_settings_for,
    generator_for,
    get_predictions,
    predict_texts,
    print_predictions,
)


def distance(first, second):
    """Levenshtein distance by its recurrence."""
    row = list(range(len(second) + 1))
    for i, symbol in enumerate(first, 1):
        previous, row = row, [i]
        for j, other in enumerate(second, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (symbol != other)))
    return row[-1]


def random_texts(number, seed):
    """Pairs of similar sentences over a small vocabulary."""
    rng = np.random.default_rng(seed)
    vocabulary = ["a", "an", "cat", "cart", "it's", "the", "they", "sat"]
    references = [" ".join(rng.choice(vocabulary, rng.integers(1, 9))) for _ in range(number)]
    hypotheses = []
    for text in references:
        letters = [rng.choice(list("aet ")) if rng.random() < 0.2 else letter for letter in text]
        kept = "".join(letter for letter in letters if rng.random() > 0.1)
        hypotheses.append(" ".join(kept.split()))
    return references, hypotheses


# ------------------------------------------------------------------------------------------------- error counts


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("kitten", "sitting", (2, 0, 1)),
        ("", "", (0, 0, 0)),
        ("abc", "", (0, 3, 0)),
        ("", "abc", (0, 0, 3)),
        ("abc", "abc", (0, 0, 0)),
        (["the", "cat", "sat"], ["the", "mat"], (1, 1, 0)),
    ],
)
def test_edit_counts_follow_the_hand_table(reference, hypothesis, expected):
    assert edit_counts(reference, hypothesis) == expected


def test_edit_counts_add_up_to_the_recurrence_s_distance_and_explain_the_length():
    rng = np.random.default_rng(0)
    for _ in range(200):
        first, second = ("".join(rng.choice(list("ab "), rng.integers(0, 12))) for _ in range(2))
        substitutions, deletions, insertions = edit_counts(first, second)
        assert substitutions + deletions + insertions == distance(first, second)
        assert deletions - insertions == len(first) - len(second)


@pytest.mark.parametrize("seed", range(3))
def test_pooled_rates_are_jiwer_s(seed):
    references, hypotheses = random_texts(60, seed)
    result = score(references, hypotheses)
    assert result.wer.rate == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-12)
    assert result.cer.rate == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-12)
    words = jiwer.process_words(references, hypotheses)
    assert result.wer.num_reference == words.hits + words.substitutions + words.deletions
    assert result.wer.low <= result.wer.rate <= result.wer.high


def test_rates_are_pooled_and_not_averaged_and_may_exceed_one():
    result = score(["a", "b c d e"], ["x y z", "b c d e"])
    assert result.wer.rate == pytest.approx(3 / 5)  # not the mean of 3 and 0
    assert score(["a"], ["b c d"]).wer.rate == 3
    assert str(score(["a b"], ["a c"]).wer) == (
        "50.0 % [50.0, 50.0]  (1 substitutions, 0 deletions, 0 insertions, 2 in all)"
    )


def test_speakers_rates_and_empty_hypotheses_are_reported():
    result = score(["ab", "cd", "ef"], ["ab", "", "ex"], ["x", "x", "y"])
    assert result.by_speaker == {"x": (0.5, 0.5), "y": (0.5, 1.0)}
    assert (result.num_utterances, result.num_empty) == (3, 1)
    data = json.loads(json.dumps(result.as_dict()))
    assert data["cer"]["rate"] == 0.5 and data["empty_share"] == pytest.approx(1 / 3)
    assert data["by_speaker"]["y"] == {"cer": 0.5, "wer": 1.0}
    assert data["interval"] == "bootstrap over utterances, stratified by speaker (2)"


def test_references_without_words_have_no_rate():
    assert math.isnan(dataclasses.replace(score(["a"], ["a"]).cer, num_reference=0).rate)


def test_the_count_matrix_has_a_row_per_utterance():
    assert count_matrix(["ab", "c"], ["b", "cd"]).tolist() == [[0, 1, 0, 2], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("references", "hypotheses", "speakers", "message"),
    [
        (["a", "b"], ["a"], None, "Received: 2 references, 1 hypotheses"),
        (["a"], ["a", "b"], None, "Received: 1 references, 2 hypotheses"),
        ([], [], None, "at least one. Received: 0 references"),
        (["a", "b"], ["a", "b"], ["x"], "Received: 2 references, 2 hypotheses, 1 speakers"),
    ],
)
def test_numbers_that_differ_are_refused(references, hypotheses, speakers, message):
    with pytest.raises(ValueError, match=f"as many hypotheses .and speakers. as references.*{message}"):
        score(references, hypotheses, speakers)


def test_a_comparison_of_texts_of_different_number_is_refused():
    with pytest.raises(ValueError, match="Received: 2 references, 1 hypotheses"):
        paired_difference(["a", "b"], ["a", "b"], ["a"])
    with pytest.raises(ValueError, match="Received: 0 references"):
        paired_difference([], [], [])


# ----------------------------------------------------------------------------------------------------- intervals


def simulated(rng, num_speakers, per_speaker, speaker_spread=0.0):
    """Ten-letter utterances whose true error rate is 0.3, in the mean over speakers."""
    hypotheses, speakers = [], []
    for speaker in range(num_speakers):
        rate = 0.3 + speaker_spread * rng.uniform(-1, 1)
        for _ in range(per_speaker):
            wrong = rng.random(10) < np.clip(rate + rng.uniform(-0.2, 0.2), 0, 1)
            hypotheses.append("".join("b" if error else "a" for error in wrong))
            speakers.append(f"s{speaker}")
    return ["a" * 10] * len(hypotheses), hypotheses, speakers


@pytest.mark.parametrize(
    ("num_speakers", "per_speaker", "spread"), [(3, 15, 0.0), (20, 5, 0.25)], ids=["stratified", "over speakers"]
)
def test_the_interval_holds_the_true_rate_about_95_times_in_100(num_speakers, per_speaker, spread):
    rng = np.random.default_rng(0)
    held = []
    for seed in range(120):
        rate = score(*simulated(rng, num_speakers, per_speaker, spread), seed=seed).cer
        held.append(rate.low <= 0.3 <= rate.high)
    assert 0.87 <= np.mean(held) <= 0.99


@pytest.mark.parametrize(
    ("num_speakers", "method"),
    [
        (9, "bootstrap over utterances, stratified by speaker (9)"),
        (10, "bootstrap over 10 speakers"),
        (11, "bootstrap over 11 speakers"),
    ],
)
def test_speakers_are_drawn_from_ten_on(num_speakers, method):
    assert score(*simulated(np.random.default_rng(0), num_speakers, 2)).method == method


def test_what_is_drawn_shows_in_the_width():
    # every utterance of a speaker has the same rate: drawing utterances within speakers changes nothing, drawing speakers does
    def interval(num_speakers):
        hypotheses = ["a" * (10 - speaker % 5) + "b" * (speaker % 5) for speaker in range(num_speakers)] * 4
        rate = score(["a" * 10] * len(hypotheses), hypotheses, [f"s{i}" for i in range(num_speakers)] * 4).cer
        return rate.high - rate.low

    assert interval(5) == 0
    assert interval(10) > 0.1


def test_intervals_are_the_same_for_the_same_seed():
    texts = random_texts(30, 0)
    assert score(*texts, seed=3) == score(*texts, seed=3)
    assert score(*texts, seed=3).cer.low != score(*texts, seed=4).cer.low


def test_a_constant_difference_is_certain_and_has_the_right_sign():
    references = ["a" * 10] * 20
    first = ["a" * (10 - index % 5) + "b" * (index % 5) for index in range(20)]
    second = [text[:-1].replace("a", "c", 1) + text[-1] for text in first]  # one more error each
    assert paired_difference(references, first, second) == pytest.approx((0.1, 0.1, 0.1))
    assert paired_difference(references, second, first) == pytest.approx((-0.1, -0.1, -0.1))


def test_the_paired_interval_ignores_what_both_models_share():
    references, first, speakers = simulated(np.random.default_rng(0), 3, 20)
    shuffled = ["".join(np.random.default_rng(i).permutation(list(text))) for i, text in enumerate(first)]
    difference, low, high = paired_difference(references, first, shuffled, speakers)
    assert difference == low == high == 0  # the same number of errors in each utterance
    alone = score(references, first, speakers).cer
    assert alone.high - alone.low > 0.05


def test_the_interval_of_a_difference_holds_zero_for_two_equally_good_models():
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        references, first, speakers = simulated(rng, 3, 15)
        _, low, high = paired_difference(references, first, simulated(rng, 3, 15)[1], speakers)
        held.append(low <= 0 <= high)
    assert 0.85 <= np.mean(held) < 1


def test_word_differences_count_words():
    difference, *_ = paired_difference(["the cat", "a dog"], ["the cat", "a dog"], ["the bat", "a dog"], unit="word")
    assert difference == 0.25


# ------------------------------------------------------------------------------------------- confusions, markup


def test_counts_of_utterances_give_the_rates_of_the_score_before_and_after_they_were_plain():
    references, hypotheses = random_texts(60, seed=3)
    speakers = [str(number % 4) for number in range(60)]
    result = score(references, hypotheses, speakers)
    counts = count_errors(references, hypotheses, speakers)
    again = ErrorCounts.from_dict(json.loads(json.dumps(counts.as_dict())))
    for found in (counts, again):
        assert found.rate("char") == (result.cer.rate, result.cer.low, result.cer.high)
        assert found.rate("word") == (result.wer.rate, result.wer.low, result.wer.high)
        assert found.of(found.speakers == "2").rate("word")[0] == result.by_speaker["2"][1]
    others = [text[1:] for text in hypotheses]
    expected = paired_difference(references, hypotheses, others, speakers, "word")
    assert again.difference(count_errors(references, others, speakers), "word") == expected


def test_counts_of_other_utterances_are_not_compared_and_none_have_no_rate():
    counts = count_errors(["a cat", "a dog"], ["a cat", "dog"], ["1", "2"])
    with pytest.raises(ValueError, match="on the same utterances"):
        counts.difference(count_errors(["a cat", "a mouse"], ["a cat", "dog"], ["1", "2"]))
    with pytest.raises(ValueError, match="on the same utterances"):
        counts.difference(counts.of(np.array([0])))
    with pytest.raises(ValueError, match="no utterances"):
        counts.of(np.array([False, False])).rate()


def test_confusions_follow_a_hand_table():
    assert confusions(["cat", "dog"], ["cut", "dogs"]) == {("a", "u"): 1, ("", "s"): 1}
    assert confusions(["abc"], ["ac"]) == {("b", ""): 1}
    assert confusions(["the cat sat", "a cat"], ["so the bat sat", "a bat"], "word") == {
        ("cat", "bat"): 2,
        ("", "so"): 1,
    }


def test_confusions_number_as_many_as_the_errors():
    references, hypotheses = random_texts(40, 0)
    total = sum(distance(ref, hyp) for ref, hyp in zip(references, hypotheses, strict=True))
    assert confusions(references, hypotheses).total() == total > 0


def test_confusions_of_different_numbers_of_texts_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        confusions(["a", "b"], ["a"])


def test_marked_shows_wrong_and_missing_characters():
    assert marked("the cat sat", "the kat at") == "the [k]at {s}at"
    assert marked("abc", "abcd") == "abc[d]"
    assert marked("same", "same") == "same"
    assert marked("gone", "") == "{gone}"


def test_marked_escapes_what_html_would_take_for_markup():
    assert marked("ab", "xb", "html") == "<b>x</b>b"
    assert marked("ab", "b", "html") == "<del>a</del>b"
    assert marked("a", "<script>", "html").count("<") == 2 * marked("a", "<script>", "html").count("</b>")


def test_marked_text_still_holds_the_hypothesis_and_the_missing_part():
    for reference, hypothesis in zip(*random_texts(40, 1), strict=True):
        shown = marked(reference, hypothesis)
        outside = "".join(piece.split("}")[-1] for piece in shown.split("{"))
        assert outside.replace("[", "").replace("]", "") == hypothesis


# ---------------------------------------------------------------------------------------------------- predictions


def spelled(probabilities):
    """Greedy decoding written out: best class, repeats merged, blanks dropped."""
    best = [symbol for symbol, _ in itertools.groupby(np.argmax(probabilities, axis=1))]
    return "".join(ALPHABET[symbol] for symbol in best if symbol != 28).strip()


@pytest.fixture
def corpus(make_corpus, monkeypatch):
    seconds = [0.9, 0.4, 0.7, 0.5]
    folder = make_corpus(
        {"validation": [(text, s) for text, s in zip(["abba", "b c", "cat", "do"], seconds, strict=True)]}
    )
    monkeypatch.setenv("VUI_CORPUS", str(folder))
    monkeypatch.chdir(folder.parent)
    return folder


@pytest.fixture
def lively_model():
    """An untrained model whose output changes from frame to frame."""
    keras.utils.set_random_seed(1)
    model = cnn_rnn_model(13, 8, 5, 2, "valid", 8)
    model.set_weights([weight * 6 if weight.ndim > 1 else weight for weight in model.get_weights()])
    return model


METADATA = {"features": dataclasses.asdict(FeatureSettings("mfcc")), "mean": [0.5] * 13, "std": [10.0] * 13}


def texts_alone(model, features):
    """What the model makes of each matrix of normalised features, one at a time and without padding."""
    return [spelled(np.asarray(model.predict_on_batch(feature[None]))[0]) for feature in features]


@pytest.mark.contract
def test_texts_of_padded_batches_are_those_of_each_utterance_alone_in_the_manifest_s_order(corpus, lively_model):
    generator = generator_for(METADATA, 13, "valid_corpus.json", "validation", minibatch_size=3)
    expected = texts_alone(lively_model, [generator.features("validation", index) for index in range(4)])
    assert len(set(expected)) == 4  # so that a wrong order would show
    assert predict_texts(lively_model, generator, "validation") == expected


@pytest.mark.contract
def test_get_predictions_plays_prints_and_returns_one_utterance(corpus, lively_model, monkeypatch, capsys):
    save_weights(lively_model, results_path("lively.h5"), METADATA)
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    samples, _ = soundfile.read(corpus / "validation" / "validation-2.flac")
    feature = (python_speech_features.mfcc(samples, 16_000) - 0.5) / 10
    (expected,) = texts_alone(lively_model, [feature.astype(np.float32)])
    lively_model.set_weights([weight * 0 for weight in lively_model.get_weights()])  # the file's weights count
    capsys.readouterr()
    assert get_predictions(2, "validation", lively_model, "lively.h5") == ("cat", expected)
    assert capsys.readouterr().out == f"True text:      cat\nPredicted text: {expected}\n"
    assert len(expected) > 3 and len(shown) == 1
    assert get_predictions(-1, "validation", lively_model, "lively.h5", play=False)[0] == "do"
    assert len(shown) == 1


@pytest.mark.contract
def test_print_predictions_lists_the_shortest_first_with_errors_and_rates(corpus, lively_model, capsys):
    save_weights(lively_model, results_path("lively.h5"), METADATA)
    generator = generator_for(METADATA, 13, "valid_corpus.json", "validation")
    predicted = texts_alone(lively_model, [generator.features("validation", index) for index in range(4)])
    capsys.readouterr()
    print_predictions([(lively_model, "lively.h5")], number=3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("true  ")[1] for line in lines[::3]] == ["b c", "do", "cat"]
    for line, index in zip(lines[1::3], [1, 3, 2], strict=True):
        text = generator.valid_texts[index]
        rate = 100 * distance(text, predicted[index]) / len(text)
        assert line == f"{'lively.h5':>16}  {marked(text, predicted[index])}  (CER {rate:.0f} %)"


def test_an_utterance_or_partition_that_is_not_there_is_refused(corpus, lively_model):
    save_weights(lively_model, results_path("lively.h5"), METADATA)
    with pytest.raises(IndexError, match=r"The validation set has 4 utterances. Received: index=4"):
        get_predictions(4, "validation", lively_model, "lively.h5")
    with pytest.raises(ValueError, match=r"partition must be one of .*Received: partition='valid'"):
        get_predictions(0, "valid", lively_model, "lively.h5")
    with pytest.raises(FileNotFoundError, match=r"No weights at results/nothing.h5"):
        get_predictions(0, "validation", lively_model, "nothing.h5")


def test_weights_of_another_architecture_are_refused_by_get_predictions(corpus, lively_model):
    save_weights(lively_model, results_path("lively.h5"), METADATA)
    with pytest.raises(ValueError, match="weights of another architecture"):
        get_predictions(0, "validation", simple_rnn_model(13), "lively.h5")


def test_features_are_those_saved_with_the_weights_else_guessed_from_the_width():
    saved = {"features": dataclasses.asdict(FeatureSettings("logmel", num_mels=40))}
    assert feature_settings_for(40, saved) == FeatureSettings("logmel", num_mels=40)
    assert feature_settings_for(161) == FeatureSettings()
    assert feature_settings_for(26, {}) == FeatureSettings("mfcc", mfcc_dim=26)
    with pytest.raises(ValueError, match=r"No features are 40 wide: a spectrogram has 161, MFCCs up to 26"):
        feature_settings_for(40)


def test_evaluation_leaves_nothing_out_unless_asked(corpus):
    assert generator_for({}, 13, corpus / "valid_corpus.json", "validation").options.max_duration is None
    limited = generator_for({}, 13, corpus / "valid_corpus.json", "validation", max_duration=0.6)
    assert limited.valid_texts == ["b c", "do"] and isinstance(limited, BatchGenerator)


def test_the_player_embeds_the_utterance_as_a_compressed_file(corpus, tmp_path):
    path = corpus / "validation" / "validation-0.flac"
    data = audio_player(path).data
    (tmp_path / "played.ogg").write_bytes(data)
    assert soundfile.info(tmp_path / "played.ogg").format == "OGG"
    assert len(read_audio(tmp_path / "played.ogg")) == len(read_audio(path))


def test_the_player_takes_a_waveform_at_its_own_rate(tmp_path):
    samples = 0.1 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)
    (tmp_path / "played.ogg").write_bytes(audio_player(samples, 8000).data)
    played, rate = soundfile.read(tmp_path / "played.ogg")
    assert rate == 8000 and len(played) == 4000
    assert np.abs(np.fft.rfft(played)).argmax() == 220  # bins of 2 Hz
