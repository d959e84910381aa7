"""Synthetic voices: the speech of espeak-ng with the time of every word, and the speakers of the demo corpus.

The voices are those of espeak-ng (GPL-3, https://github.com/espeak-ng/espeak-ng), used as an unmodified shared
library that is loaded at run time from its own package, `espeakng-loader`; no part of it is copied here. The audio
that it produces is not covered by its licence.

`speak` gives the clean speech of one voice; `make_speakers` draws speakers whose voices no two splits share.
"""

import _ctypes
import contextlib
import ctypes
import dataclasses
import itertools
import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from vuilab.audio import SAMPLE_RATE
from vuilab.text import invalid_characters

# Left out of every split: whispers, robots and effects, and near-copies of a variant that is used (Gene2, steph2,
# steph3, Mr serious, iven, klatt4, klatt6, michel, benjamin), so that no voice crosses over under another name; and
# Reed, whose breath comes from the C library's own random numbers, which cannot be seeded portably.
_TRAIN_VARIANTS = """
    Alicia Andrea Andy Annie Diogo Henrique Hugo Jacky Lee Mario Mike Nguyen Storm Tweaky adam anika belinda
    boris david ed edward f2 f3 f4 f5 grandma grandpa gustave iven2 iven4 john klatt3 klatt5 linda m1 m2 m4 m5 m7
    marcelo miguel mike2 norbert pablo paul pedro quincy rob robert shelby travis victor
    """
VARIANTS = {
    "train": tuple(_TRAIN_VARIANTS.split()),
    "validation": ("Alex", "Gene", "aunty", "m6", "max"),
    "test": ("Denis", "Michael", "antonio", "f1", "m3", "m8", "steph"),
}
_FEMALE = "Alicia Andrea Annie anika aunty belinda f1 f2 f3 f4 f5 grandma linda shelby steph"
ACCENTS = ("en-us", "en", "en-us", "en-gb-x-rp", "en-us-nyc")
SPEAKERS_PER_VARIANT = 2
# of the demo's speakers: lowest rate, pitch and pitch range with what is just too high, and all formant shifts
SPREAD = ((155, 196), (38, 63), (40, 66), (0.95, 0.975, 1.0, 1.025, 1.05))
FIRST_SPEAKER = 90_001  # above every LibriSpeech speaker, so that the two can be mixed

_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_SYNCHRONOUS, _PHONEME_EVENTS_NO_EXIT = 2, 0x8001
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_PARAMETER
_SILENCE = 1e-3  # of the peak: quieter than this before the first or after the last word is no speech

WordTimes = list[tuple[str, float, float]]  # (word, start, end) in seconds


@dataclasses.dataclass(frozen=True)
class Voice:
    """One synthetic speaker."""

    speaker: str  # number used as LibriSpeech uses reader numbers
    split: str  # train, validation or test
    variant: str  # espeak-ng voice variant: vocal tract, timbre, intonation
    accent: str  # espeak-ng language name
    rate: int  # words per minute
    pitch: int  # 0..99, 50 is the variant's own
    pitch_range: int  # 0..99, 50 is the variant's own
    formant_shift: float  # all frequencies times this, as a shorter (> 1) vocal tract has them

    @property
    def name(self) -> str:
        """The name by which espeak-ng knows accent and variant."""
        return f"{self.accent}+{self.variant}"

    @property
    def sex(self) -> str:
        """M or F, as the table SPEAKERS.TXT has it."""
        return "F" if self.variant in _FEMALE.split() else "M"


def make_speakers(seed: int, num_utterances: dict[str, int]) -> list[Voice]:
    """Return the speakers of a demo corpus, at most one for every four utterances of a split; no two splits share a variant."""
    rng = np.random.default_rng([seed, 1])
    speakers: list[Voice] = []
    for split, variants in VARIANTS.items():
        pool = [variants[i] for _ in range(SPEAKERS_PER_VARIANT) for i in rng.permutation(len(variants))]
        for position, variant in enumerate(pool[: max(1, num_utterances[split] // 4)]):
            speaker = str(FIRST_SPEAKER + len(speakers))
            speakers.append(draw_voice(rng, speaker, split, variant, ACCENTS[position % len(ACCENTS)]))
    return speakers


def draw_voice(
    rng: np.random.Generator, speaker: str, split: str, variant: str, accent: str, spread: tuple = SPREAD
) -> Voice:
    """Return a speaker with a voice variant and an accent, and other settings drawn from a spread, see `SPREAD`."""
    *limits, formant_shifts = spread
    numbers = (int(rng.integers(*pair)) for pair in limits)
    return Voice(speaker, split, variant, accent, *numbers, float(rng.choice(formant_shifts)))


# ---------------------------------------------------------------------------------------------- espeak-ng


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),  # a union
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_LOCK = threading.Lock()


@contextlib.contextmanager
def espeak_library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """Yield a newly loaded espeak-ng and its sample rate; one thread at a time, as it keeps its state in global variables.

    Loading costs 1 ms and is half of what makes speech repeatable: the phases of the random flutter live in static
    variables, which neither `espeak_Terminate` nor a new `espeak_Initialize` resets. The other half is the seed of
    the breath noise, which `espeak_Initialize` takes from the clock.
    """
    import espeakng_loader

    with _LOCK:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            data = espeakng_loader.get_data_path()
            rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _PHONEME_EVENTS_NO_EXIT)
            if rate <= 0:
                raise RuntimeError(
                    f"espeak-ng cannot read its data in {data} (it answered {rate}). Reinstall espeakng-loader; if the "
                    f"path is long (here {len(data)} characters), move the environment to a shorter one."
                )
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            try:
                yield library, rate
            finally:
                library.espeak_Terminate()
        finally:
            close = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary
            close(library._handle)


def _run_espeak(text: str, name: str, parameters: dict[int, int]) -> tuple[np.ndarray, int, list[tuple]]:
    """Return (samples int16, their rate, [(event type, text position, sample)]) of one text."""
    chunks: list[np.ndarray] = []
    events: list[tuple[int, int, int]] = []

    def receive(samples, num_samples, event):
        if samples and num_samples > 0:
            chunks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        for index in itertools.count():
            if event[index].type == _EVENT_END_OF_LIST:
                return 0
            events.append((event[index].type, event[index].text_position, event[index].sample))

    callback = _Callback(receive)
    with espeak_library() as (library, rate):
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(name.encode()) != 0:
            raise ValueError(
                f"espeak-ng has no voice {name!r}. Expected accent+variant, for example 'en-us+m3'; the accents are "
                f"{', '.join(sorted(set(ACCENTS)))}, the variants those in voices.VARIANTS."
            )
        for parameter, value in parameters.items():
            library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, 1, None, None)
        library.espeak_Synchronize()
    return (np.concatenate(chunks) if chunks else np.zeros(0, np.int16)), rate, events


def _word_starts(text: str, events: list[tuple[int, int, int]], end: int) -> tuple[list[int], int]:
    """Return the first sample of every word, and for how many words it is an estimate.

    Some pairs ("in the", "for a") are one entry of espeak-ng's dictionary and give one event. The words inside such
    a pair share its phonemes in proportion to their letters.
    """
    words = text.split()
    positions = np.cumsum([0] + [len(word) + 1 for word in words])[:-1]
    heard = {position - 1: sample for kind, position, sample in reversed(events) if kind == _EVENT_WORD}
    phonemes = sorted({sample for kind, _, sample in events if kind == _EVENT_PHONEME})
    starts = [heard.get(int(position)) for position in positions]
    starts[0] = starts[0] or 0
    num_missing = starts.count(None)
    known = [index for index, start in enumerate(starts) if start is not None]
    for index, stop in itertools.pairwise([*known, len(words)]):
        last = starts[stop] if stop < len(words) else end
        inside = [sample for sample in phonemes if starts[index] <= sample < last]
        letters = np.cumsum([len(word) for word in words[index:stop]])
        for offset, share in enumerate(letters[:-1] / letters[-1], start=index + 1):
            place = round(share * len(inside))
            exact = starts[index] + share * (last - starts[index])
            starts[offset] = inside[place] if 0 < place < len(inside) else int(exact)
    return [int(sample) for sample in np.maximum.accumulate(starts)], num_missing


def speak(
    text: str,
    name: str = "en-us+m3",
    rate: int = 170,
    pitch: int = 50,
    pitch_range: int = 50,
    formant_shift: float = 1.0,
) -> tuple[np.ndarray, WordTimes, int]:
    """Speak one sentence with a synthetic voice, without noise or room.

    Args:
        text: lower-case words of a-z and apostrophe.
        name: `accent+variant` as espeak-ng names it.
        rate: words per minute, 80 to 450.
        pitch, pitch_range: 0 (low, monotone) to 99; 50 is the variant's own.
        formant_shift: all frequencies times this, about 0.9 to 1.1; the duration stays.

    Returns:
        (audio, words, number of starts that are estimates): float32 (num_samples,) at 16 kHz, and for each word
        (word, start, end) in seconds.

    Raises:
        ValueError: on other characters, an unknown voice, or a voice that stays silent.
    """
    if not text.split() or invalid_characters(text):
        raise ValueError(
            f"Cannot speak {text!r}. Expected words of the letters a-z and the apostrophe, separated by spaces. "
            "Write numbers as words and drop the punctuation."
        )
    text = " ".join(text.split())
    # Shifting the formants plays the speech faster, so that it has to be spoken slower to last as long.
    parameters = {_RATE: round(rate / formant_shift), _VOLUME: 100, _PITCH: pitch, _RANGE: pitch_range}
    samples, espeak_rate, events = _run_espeak(text, name, parameters)
    import scipy.signal  # here, since pronunciations need none of it

    ratio = Fraction(SAMPLE_RATE / (espeak_rate * formant_shift)).limit_denominator(500)
    audio = scipy.signal.resample_poly(samples / 32768.0, ratio.numerator, ratio.denominator).astype(np.float32)
    loud = np.flatnonzero(np.abs(audio) > _SILENCE * np.abs(audio).max(initial=1e-9))
    if not len(loud):
        raise ValueError(f"espeak-ng made no sound for {text!r} with the voice {name!r}; choose another voice.")
    starts, num_missing = _word_starts(text, events, len(samples))
    first, last = loud[0], loud[-1] + 1
    edges = np.clip(np.append(np.array(starts) * float(ratio), last), first, last) / SAMPLE_RATE
    edges[0] = first / SAMPLE_RATE
    times = [
        (word, round(float(start), 5), round(float(end), 5))
        for word, start, end in zip(text.split(), edges[:-1], edges[1:], strict=True)
    ]
    return audio, times, num_missing
