import itertools

import numpy as np
import pytest

from vuilab.corpus import voices
from vuilab.corpus.demo import SCALES


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio)))) if len(audio) else 0.0


def test_speak_gives_16_khz_audio_that_is_quiet_outside_the_words():
    audio, words, _ = voices.speak("the small dog ran across the road", "en-us+m3")
    assert audio.dtype == np.float32
    assert audio.ndim == 1
    assert [word for word, _, _ in words] == ["the", "small", "dog", "ran", "across", "the", "road"]
    first, last = round(words[0][1] * 16_000), round(words[-1][2] * 16_000)
    assert 1.2 < words[-1][2] < 3.5
    speech = rms(audio[first:last])
    assert speech > 0.02
    assert rms(audio[:first]) < 0.01 * speech
    assert rms(audio[last:]) < 0.01 * speech
    assert abs(audio[first]) > 0  # the first word starts where the sound starts
    for (_, start, end), (_, following, _) in itertools.pairwise(words):
        assert start < end == following


def test_word_times_agree_with_the_hiss_of_s_in_the_sound():
    """Above 4 kHz a voice is nearly silent but for sounds like s: the energy there tells where they are."""
    audio, words, _ = voices.speak("we know seven more lamps now", "en-us+m7", rate=140)
    times = {word: (start, end) for word, start, end in words}

    def hiss(start: float, end: float) -> float:
        part = audio[int(start * 16_000) : int(end * 16_000)]
        power = np.abs(np.fft.rfft(part)) ** 2
        return float(power[np.fft.rfftfreq(len(part), 1 / 16_000) > 4_000].sum() / 16_000)

    start, end = times["seven"]
    assert hiss(start, start + 0.5 * (end - start)) > 10 * hiss(*times["know"])
    assert hiss(start, start + 0.5 * (end - start)) > 10 * hiss(*times["more"])
    middle = sum(times["lamps"]) / 2
    assert hiss(middle, times["lamps"][1]) > 10 * hiss(times["lamps"][0], middle)
    assert hiss(middle, times["lamps"][1]) > 10 * hiss(*times["now"])


def test_pairs_that_espeak_speaks_as_one_still_give_every_word_a_time():
    text = "in the house one of the cats had been out of the box for a day"
    _, words, num_missing = voices.speak(text)
    assert num_missing >= 3
    assert [word for word, _, _ in words] == text.split()
    assert all(end - start > 0.02 for _, start, end in words)


def test_formant_shift_moves_the_spectrum_and_not_the_duration():
    text = "the farmer saw nine red horses near the river"

    def measure(shift: float) -> tuple[float, float]:
        audio, words, _ = voices.speak(text, "en-us+m7", formant_shift=shift)
        power = np.abs(np.fft.rfft(audio)) ** 2
        frequencies = np.fft.rfftfreq(len(audio), 1 / 16_000)
        voiced = (frequencies > 200) & (frequencies < 4_000)
        centroid = np.sum(frequencies[voiced] * power[voiced]) / np.sum(power[voiced])
        return float(centroid), words[-1][2] - words[0][1]

    (low, low_seconds), (high, high_seconds) = measure(0.9), measure(1.1)
    assert 1.08 < high / low < 1.4
    assert high_seconds == pytest.approx(low_seconds, rel=0.06)


def test_the_same_words_sound_the_same_whatever_was_said_before():
    voice = "en-us+m1"  # has random flutter and roughness
    first, *_ = voices.speak("it's cold today", voice)
    voices.speak("something else altogether", "en+f1")
    second, *_ = voices.speak("it's cold today", voice)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("text", ["", "  ", "Hello", "room 5", "wait, what"])
def test_speak_refuses_text_outside_the_alphabet(text):
    with pytest.raises(ValueError, match="Expected words of the letters a-z"):
        voices.speak(text)


def test_speak_names_an_unknown_voice():
    with pytest.raises(ValueError, match=r"no voice 'xx\+nobody'.*accent\+variant"):
        voices.speak("hello", "xx+nobody")


def test_every_voice_of_the_full_corpus_speaks_and_splits_share_no_variant():
    sizes = dict(zip(voices.VARIANTS, SCALES["full"], strict=True))
    speakers = voices.make_speakers(1, sizes)
    assert len({voice.speaker for voice in speakers}) == len(speakers) >= 40
    variants = {split: {v.variant for v in speakers if v.split == split} for split in sizes}
    assert sum(map(len, variants.values())) == len(set().union(*variants.values()))
    assert sum(voice.split == "test" for voice in speakers) >= 10  # enough to resample speakers
    for voice in {voice.name: voice for voice in speakers}.values():
        audio, words, _ = voices.speak(
            "hello there", voice.name, voice.rate, voice.pitch, voice.pitch_range, voice.formant_shift
        )
        assert rms(audio) > 0.005, voice
        assert 0.3 < words[-1][2] - words[0][1] < 1.6, voice
