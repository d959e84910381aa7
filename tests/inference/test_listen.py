"""Listening: text while somebody speaks, the offline text at pauses, nothing from noise."""

import dataclasses
import io
import itertools

import keras
import numpy as np
import pytest
import soundfile

from sample_models import bidirectional_rnn_model, cnn_rnn_model, rnn_model
from vuilab.audio import read_audio
from vuilab.corpus.manifest import MANIFESTS, read_manifest
from vuilab.decoding.beam import Hypothesis
from vuilab.features import FeatureSettings
from vuilab.inference.listen import Heard, Listener, LiveLine, listen
from vuilab.inference.pieces import pieces
from vuilab.inference.transcribe import Recogniser


@pytest.fixture(scope="module")
def talk(tiny_corpus, tmp_path_factory):
    """Three sentences with pauses over faint noise, 7 to 10 s."""
    parts = []
    for utterance in read_manifest(tiny_corpus / MANIFESTS["train"])[:3]:
        parts += [read_audio(utterance.path), np.zeros(12_000, np.float32)]
    signal = np.concatenate(parts)
    signal += 1e-4 * np.random.default_rng(0).standard_normal(len(signal)).astype(np.float32)
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    soundfile.write(path, signal.clip(-1, 1), 16_000)
    return path


def _recogniser(model: keras.Model, talk) -> Recogniser:
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.normal(0, 0.2, w.shape) if w.ndim == 2 else w for w in model.get_weights()])
    features = FeatureSettings().extract(read_audio(talk))
    return Recogniser(model, FeatureSettings(), features.mean(axis=0), features.std(axis=0), {})


@pytest.fixture(scope="module")
def recogniser(talk):
    return _recogniser(rnn_model(161, 12), talk)


def _hear(listener: Listener, samples: np.ndarray, size: int) -> list[Heard]:
    chunks = [samples[start : start + size] for start in range(0, len(samples), size)]
    found = [heard for chunk in chunks for heard in listener.add(chunk)]
    return found + list(listener.finish())


@pytest.mark.parametrize(
    ("build", "looks_back"),
    [(lambda: rnn_model(161, 12), True), (lambda: bidirectional_rnn_model(161, 8), False)],
    ids=["looks back only", "both directions"],
)
def test_final_texts_are_the_offline_ones_and_come_in_parts_before(build, looks_back, talk):
    recogniser = _recogniser(build(), talk)
    found = list(pieces(talk))
    expected = [recogniser.decode(recogniser.probabilities(piece.samples)) for piece in found]
    assert len(expected) >= 3 and all(expected)
    samples = read_audio(talk)
    for size in (1600, 777):
        heard = _hear(Listener(recogniser), samples, size)
        finals = [item for item in heard if item.final]
        assert [item.text for item in finals] == expected
        assert [item.start for item in finals] == [piece.start for piece in found]
        for final in finals:
            before = [item.text for item in heard if not item.final and item.start == final.start]
            assert len(before) >= 2 and all(before)  # while it was said
            if looks_back:  # what has been heard does not change, up to the end that greedy decoding strips
                assert all(later.startswith(text) for text, later in itertools.pairwise(before))


def test_a_growing_piece_is_decoded_at_multiples_of_half_a_second(talk):
    class Recorder(Recogniser):
        def posteriors(self, samples):
            lengths.append(len(samples))
            return super().posteriors(samples)

    lengths: list[int] = []
    given = _recogniser(rnn_model(161, 4), talk)
    recogniser = Recorder(given.model, given.settings, given.mean, given.std, given.metadata)
    found = list(pieces(talk))
    _hear(Listener(recogniser), read_audio(talk), 777)
    finals = [len(piece.samples) for piece in found]
    growing = [length for length in lengths if length not in finals]
    assert len(growing) > 2 * len(finals) and not any(length % 8000 for length in growing)


def test_a_piece_too_short_for_the_model_gives_no_line(talk):
    recogniser = _recogniser(cnn_rnn_model(161, 4, 400, 2, "valid", 4), talk)  # a kernel of 4 s
    assert all(len(piece.samples) < 4 * 16_000 for piece in pieces(talk))
    assert _hear(Listener(recogniser), read_audio(talk), 1600) == []


def test_phonemes_are_read_at_the_end_of_a_piece(talk):
    from vuilab.decoding.kneser_ney import train_ngram
    from vuilab.decoding.settings import SoundWeights
    from vuilab.decoding.sounds import SoundDecoder
    from vuilab.models.residual_birnn import residual_birnn_model

    keras.utils.set_random_seed(0)
    model = residual_birnn_model(units=4, filters=4, recur_layers=2, phoneme_heads=(1,), print_summary=False)
    settings = FeatureSettings("logmel")
    language_model = train_ngram(["a cat sat", "the dog"], order=2)
    decoder = SoundDecoder(language_model, SoundWeights(1.0, alpha=0.1, beta=9.0))
    recogniser = Recogniser(model, settings, np.zeros(80, np.float32), np.ones(80, np.float32), {}, decoder)
    samples = read_audio(talk)[: 3 * 16_000]
    expected = [recogniser.decode(*recogniser.posteriors(piece.samples)) for piece in _pieces_of(samples)]
    finals = [item.text for item in _hear(Listener(recogniser), samples, 1600) if item.final]
    assert finals == expected and all(expected)


def _pieces_of(samples: np.ndarray) -> list:
    from vuilab.inference.pieces import speech_pieces

    return list(speech_pieces([samples]))


def test_long_speech_without_a_pause_is_finished_in_parts(recogniser, talk, monkeypatch):
    num_pieces = len(list(pieces(talk)))
    monkeypatch.setattr("vuilab.inference.pieces.LONGEST", 1.0)
    finals = [item for item in _hear(Listener(recogniser), read_audio(talk), 1600) if item.final]
    assert len(finals) > num_pieces


@pytest.mark.parametrize("kind", ["silence", "faint noise", "loud noise", "hum", "clicks"])
def test_nobody_speaks(kind, recogniser):
    rng, time = np.random.default_rng(0), np.arange(3 * 16_000) / 16_000
    signal = {
        "silence": np.zeros(len(time)),
        "faint noise": 1e-3 * rng.standard_normal(len(time)),
        "loud noise": 0.1 * rng.standard_normal(len(time)),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * time),
        "clicks": np.where(np.arange(len(time)) % 16_000 == 8_000, 0.5, 0.0),
    }[kind]
    assert _hear(Listener(recogniser), signal.astype(np.float32), 1600) == []


def test_a_beam_search_decides_the_final_text(recogniser, talk):
    class Decoder:
        def decode(self, probabilities):
            return [Hypothesis("by beam search", 0.0, 0.0, 0.0)]

    heard = _hear(Listener(dataclasses.replace(recogniser, decoder=Decoder())), read_audio(talk), 1600)
    assert all((item.text == "by beam search") == item.final for item in heard)


def test_speech_that_the_model_gives_no_letter_for_gives_no_line(talk):
    model = rnn_model(161, 4)
    weights = model.get_weights()
    weights[-2:] = [np.zeros((4, 29)), np.eye(29)[28] * 9]  # the blank always wins
    model.set_weights(weights)
    out = io.StringIO()
    assert listen(_recogniser_as_is(model), [read_audio(talk)], out) == [] and out.getvalue() == ""


def _recogniser_as_is(model: keras.Model) -> Recogniser:
    return Recogniser(model, FeatureSettings(), np.zeros(161, np.float32), np.ones(161, np.float32), {})


# -------------------------------------------------------------------------------------------------------- terminal


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line_that_grows_and_a_pipe_only_final_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "12")
    events = [
        Heard("he", 0.0, False),
        Heard("hello there big world", 0.0, False),
        Heard("hello", 0.0, False),
        Heard("", 0.0, False),
        Heard("hello you", 0.0, True),
        Heard("next", 2.0, True),
    ]
    terminal, pipe = _Terminal(), io.StringIO()
    for out in (terminal, pipe):
        line = LiveLine(out)
        for event in events:
            line.show(event)
    assert pipe.getvalue() == "hello you\nnext\n"
    shown = terminal.getvalue()
    assert shown == "\rhe\re big world\rhello      \r     \rhello you\nnext\n"
    assert _screen(shown, 12) == ["hello you", "next"]


def _screen(text: str, columns: int) -> list[str]:
    """What a terminal shows after it was sent a text."""
    lines = []
    for line in text.split("\n")[:-1]:
        cells = [" "] * columns
        for part in line.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return lines


def test_ctrl_c_finishes_the_line(recogniser, talk):
    samples = read_audio(talk)
    speech = next(iter(pieces(talk)))
    end = round(speech.start * 16_000) + len(speech.samples) // 2

    def chunks():
        for start in range(0, end, 1600):
            yield samples[start : start + 1600]
        raise KeyboardInterrupt

    out = io.StringIO()
    texts = listen(recogniser, chunks(), out)
    assert len(texts) == 1 and out.getvalue() == texts[0] + "\n"
