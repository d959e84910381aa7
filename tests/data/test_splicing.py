"""Novel sentences of recorded words: each stretch is what its speaker said, cut where a word ends, with its own text."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from vuilab.corpus.manifest import MANIFESTS, Utterance
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.data.splicing import MOST_WORDS, Splicer
from vuilab.features import FeatureSettings
from vuilab.text import int_sequence_to_text

RATE = 100  # frames per second
TEXTS = (
    "the cat sat on the mat",
    "a dog ran home",
    "birds sing",
    "it's late again and the night is cold",
    "one two three four",
)


def utterance(number, text, speaker="1", speed=1.0):
    """Every word takes 0.3 s, with pauses of 0.1 s around it."""
    words = [[word, 0.1 + 0.4 * k, 0.4 + 0.4 * k] for k, word in enumerate(text.split())]
    duration = (0.4 * len(words) + 0.1) / speed
    return Utterance(Path(f"/{number}.flac"), duration, text, speaker, {"words": words}, speed)


def traced(utterances):
    """Features that tell where they come from: column 0 the utterance, column 1 the frame."""

    def features_of(index):
        frames = np.arange(round(utterances[index].duration * RATE))
        return np.stack([np.full_like(frames, index), frames], axis=1)

    return features_of


def stretches(features):
    """Cut where the origin changes: (utterance, first frame, last frame + 1) for each piece."""
    jumps = np.flatnonzero((np.diff(features[:, 0]) != 0) | (np.diff(features[:, 1]) != 1)) + 1
    return [(int(piece[0, 0]), int(piece[0, 1]), int(piece[-1, 1]) + 1) for piece in np.split(features, jumps)]


@pytest.mark.parametrize("speed", [1.0, 0.9, 1.1])
def test_every_stretch_has_the_words_spoken_in_it(speed):
    utterances = [utterance(n, text, speed=speed) for n, text in enumerate(TEXTS)]
    splicer, features_of, seen = Splicer(utterances, RATE), traced(utterances), set()
    for seed in range(200):
        features, labels = splicer.splice(0, features_of, 1000, np.random.default_rng(seed))
        said = []
        for index, first, last in stretches(features):
            inside = [  # words whose middle is heard, from the times as they were written down
                word
                for word, start, end in utterances[index].extra["words"]
                if first <= (start + end) / 2 / speed * RATE < last
            ]
            heard = sum(end - start for _, start, end in utterances[index].extra["words"][: len(inside)]) / speed * RATE
            assert last - first >= heard - 2  # none is cut short
            said += inside
        text = "".join(int_sequence_to_text(labels))
        assert text == " ".join(said)
        assert len(features) <= len(features_of(0))
        seen.add(text)
    assert len(seen) > 150


def test_a_stretch_is_one_word_to_six_as_often():
    utterances = [utterance(0, " ".join(["word"] * 400))]
    splicer = Splicer(utterances, RATE)
    lengths = []
    for seed in range(60):
        features, _ = splicer.splice(0, traced(utterances), 10_000, np.random.default_rng(seed))
        lengths += [round((last - first) / 40) for _, first, last in stretches(features)[:-3]]
    counts = np.bincount(lengths, minlength=MOST_WORDS + 1)[1 : MOST_WORDS + 1]
    assert counts.sum() > 0.97 * len(lengths)  # some stretches happen to follow each other
    assert counts.min() > 0.8 * counts.mean() and counts.max() < 1.2 * counts.mean()


def test_nobody_is_given_the_words_of_others_nor_of_another_speed():
    utterances = [
        utterance(n, text, speaker=str(n % 2), speed=speed) for speed in (0.9, 1.0) for n, text in enumerate(TEXTS)
    ]
    splicer, features_of = Splicer(utterances, RATE), traced(utterances)
    for index, base in enumerate(utterances):
        for seed in range(20):
            features, _ = splicer.splice(index, features_of, 1000, np.random.default_rng(seed))
            owners = {(utterances[k].speaker, utterances[k].speed) for k, _, _ in stretches(features)}
            assert owners == {(base.speaker, base.speed)}


def test_labels_have_a_limit_and_the_utterance_stays_where_nothing_fits():
    utterances = [utterance(n, text) for n, text in enumerate(TEXTS)]
    splicer, features_of = Splicer(utterances, RATE), traced(utterances)
    lengths = [len(splicer.splice(3, features_of, 12, np.random.default_rng(seed))[1]) for seed in range(50)]
    found = [length for length in lengths if length != len(TEXTS[3])]  # the rest found nothing short enough
    assert len(found) > 25 and 8 < max(found) <= 12
    alone = [utterance(0, "unpronounceable")]
    features, labels = Splicer(alone, RATE).splice(0, traced(alone), 3, np.random.default_rng(0))
    assert len(features) == 50 and len(labels) == 15


def test_words_without_times_and_times_of_other_words_are_named():
    good = utterance(0, "the cat")
    with pytest.raises(ValueError, match=r"data words CORPUS --out NEW"):
        Splicer([good, dataclasses.replace(good, extra={})], RATE)
    with pytest.raises(ValueError, match=r"Expected: the dog\. Received: the cat"):
        Splicer([dataclasses.replace(good, text="the dog")], RATE)


# --------------------------------------------------------------------------------------------- in the generator


def generator(corpus, **options):
    made = BatchGenerator(FeatureSettings("logmel"), DataOptions(minibatch_size=4, **options))
    made.set_statistics(np.zeros(80), np.ones(80))
    made.load("train", corpus / MANIFESTS["train"])
    made.load("validation", corpus / MANIFESTS["validation"])
    return made


def texts_of(inputs):
    rows = zip(inputs["the_labels"], inputs["label_length"], strict=True)
    return ["".join(int_sequence_to_text(labels[:length])) for labels, length in rows]


def test_the_share_of_novel_sentences_is_as_asked_and_each_step_draws_its_own(tiny_corpus):
    made = generator(tiny_corpus, splice=0.5, speeds=(0.9, 1.0))
    known, novel, total = set(made.train_texts), 0, 0
    for step, indices in enumerate(made.plan("train", 0)):
        inputs, _ = made.assemble("train", indices, made.step_rng(0, step))
        again, _ = made.assemble("train", indices, made.step_rng(0, step))
        assert all(np.array_equal(inputs[key], again[key]) for key in inputs)
        novel += sum(text not in known for text in texts_of(inputs))
        total += len(indices)
        for row, length in zip(inputs["the_input"], inputs["input_length"], strict=True):
            assert row[length - 1].any() and not row[length:].any()
        # the shape is that of the recorded batch, so that no new program is compiled
        recorded, _ = made.assemble("train", indices)
        assert inputs["the_input"].shape == recorded["the_input"].shape
        assert inputs["the_labels"].shape == recorded["the_labels"].shape
        assert set(texts_of(recorded)) <= known
    assert 0.35 * total < novel < 0.6 * total


def test_validation_is_never_spliced(tiny_corpus):
    made = generator(tiny_corpus, splice=1.0)
    indices = made.plan("validation")[0]
    inputs, _ = made.assemble("validation", indices, np.random.default_rng(0))
    assert set(texts_of(inputs)) <= set(made.valid_texts)


def test_no_sentence_has_more_letters_than_the_model_has_frames(tiny_corpus):
    made = generator(tiny_corpus, splice=1.0)

    def few_frames(num_frames):
        return num_frames // 7

    made.drop_infeasible("train", few_frames)
    known, novel = set(made.train_texts), 0
    for step, indices in enumerate(made.plan("train", 0)):
        inputs, _ = made.assemble("train", indices, made.step_rng(0, step))
        for text, length in zip(texts_of(inputs), inputs["input_length"], strict=True):
            needed = len(text) + sum(a == b for a, b in itertools.pairwise(text))
            assert needed <= few_frames(length)
            novel += text not in known
    assert novel
