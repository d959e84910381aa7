"""Transcribing audio files with a trained model: the weights file says everything that is needed."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vuilab.alphabet import ENGLISH, alphabet_of, using
from vuilab.audio import SAMPLE_RATE, blocks, duration, read_audio
from vuilab.decoding.alignment import Alignment, FrameClock, align, frame_clock, shift
from vuilab.decoding.beam import BeamDecoder
from vuilab.decoding.greedy import Posteriors, greedy_decode
from vuilab.decoding.language_model import load_language_model
from vuilab.decoding.settings import Decoding, TunedLanguageModel
from vuilab.decoding.sounds import SoundDecoder
from vuilab.features import FeatureSettings
from vuilab.files import progress_bar, released_folder
from vuilab.inference.pieces import BLOCK, LONGEST, Piece, is_long, speech_or_all
from vuilab.models.frames import TimeChange, frames_out
from vuilab.models.plain import PlainNetwork
from vuilab.runs.record import read_record
from vuilab.runs.weights_file import read_metadata
from vuilab.scoring.predictions import feature_settings_for

if TYPE_CHECKING:
    import keras

STD_FLOOR = 1e-3
PADDED_TO = 160  # frames: utterances for models that know their length are padded to a multiple of this
LONGEST_WHOLE = 60.0  # seconds that are aligned at once; longer recordings in windows
NEAR_END = 4.0  # seconds of a window whose sound a network hears without what is around it
SHORTEST_CHECKED = 0.4  # seconds; shorter files are transcribed without asking whether anybody speaks


class KerasNetwork:
    """A Keras model, asked as a recogniser asks a `PlainNetwork`."""

    def __init__(self, model: "keras.Model"):
        from vuilab.models.acoustic import heads_of, time_changes
        from vuilab.models.frames import PHONEMES
        from vuilab.models.length_aware import is_length_aware

        self.model, self.name, self.width = model, model.name, model.input_shape[-1]
        self.changes: list[TimeChange] = time_changes(model)
        self.knows_ends = is_length_aware(model)
        self.phoneme_head = next((layer.name for layer in reversed(heads_of(model, PHONEMES))), None)

    @functools.cached_property
    def _both(self) -> "keras.Model":
        from vuilab.models.acoustic import with_phonemes

        return with_phonemes(self.model)

    def posteriors(self, features: np.ndarray, phonemes: bool) -> list[np.ndarray]:
        """See `PlainNetwork.posteriors`."""
        num_frames = len(features)
        if self.knows_ends:  # zeros behind the end change nothing, and few lengths mean few compilations
            features = np.pad(features, ((0, -num_frames % PADDED_TO), (0, 0)))
        both = phonemes and self.phoneme_head
        outputs = (self._both if both else self.model).predict_on_batch(features[None])
        return [
            np.asarray(part)[0, : frames_out(self.changes, num_frames)] for part in (outputs if both else [outputs])
        ]


@dataclasses.dataclass(frozen=True)
class Recogniser:
    """A model with the features and statistics that it was trained with."""

    model: "keras.Model | PlainNetwork"  # features to softmax
    settings: FeatureSettings
    mean: np.ndarray  # (num_features,), subtracted
    std: np.ndarray  # (num_features,), divided by
    metadata: dict  # everything else in the weights file
    decoder: BeamDecoder | SoundDecoder | None = None  # a beam search; None: greedy decoding

    @property
    def alphabet(self) -> str:
        """The characters that its classes stand for, in order."""
        return self.metadata.get("alphabet", ENGLISH)

    def posteriors(self, samples: np.ndarray) -> Posteriors:
        """Return probabilities of letters, and of phonemes where the model learnt them, of a 16 kHz waveform (num_samples,)."""
        features = self.normalise(self.settings.extract(samples))
        if self.output_length(len(features)) < 1:
            raise ValueError(f"{len(samples)} samples are too few for one output frame of {self.model.name}.")
        return Posteriors(*self.network.posteriors(features, isinstance(self.decoder, SoundDecoder)))

    @functools.cached_property
    def network(self) -> KerasNetwork | PlainNetwork:
        """What computes the probabilities."""
        return self.model if isinstance(self.model, PlainNetwork) else KerasNetwork(self.model)

    def output_length(self, num_frames: int) -> int:
        """Return how many frames come out for this many feature frames."""
        return frames_out(self.network.changes, num_frames)

    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """Return class probabilities (num_output_frames, num_classes) of a 16 kHz waveform (num_samples,)."""
        return self.posteriors(samples).letters

    def normalise(self, features: np.ndarray) -> np.ndarray:
        """Return features (num_frames, num_features) as the model was trained with them, float32."""
        return ((features - self.mean) / self.std).astype(np.float32)

    def decode(self, letters: np.ndarray, phonemes: np.ndarray | None = None) -> str:
        """Return the text of `Posteriors`: beam search where there is one, else greedy."""
        with using(self.alphabet):
            if isinstance(self.decoder, SoundDecoder):
                return self.decoder.decode(letters, phonemes)[0].text
            return greedy_decode(letters) if self.decoder is None else self.decoder.decode(letters)[0].text

    @property
    def clock(self) -> FrameClock:
        """When each output frame happens."""
        return frame_clock(self.network.changes, self.settings)

    def transcribe(self, path: str | Path) -> str:
        """Return the text of an audio file of any length, empty when nobody speaks; for the errors see `transcribe_words`."""
        return " ".join(text for text, _ in self._parts(self._stretches(path), times=False))

    def transcribe_samples(self, samples: np.ndarray) -> str:
        """Return the text of a 16 kHz waveform (num_samples,) of any length; empty when nobody speaks."""
        found = speech_or_all(lambda: [samples], "The recording")
        if len(samples) <= LONGEST * SAMPLE_RATE:
            short = len(samples) < SHORTEST_CHECKED * SAMPLE_RATE
            found = iter([Piece(0.0, samples)] if short or any(found) else [])
        stretches = ((piece.start, piece.samples) for piece in found)
        return " ".join(text for text, _ in self._parts(stretches, times=False))

    def transcribe_words(self, path: str | Path) -> Alignment:
        """Return when each word and character of an audio file of any length was spoken.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when it cannot be read as audio or is too short, or when the times of the model's frames are not known.
        """
        found = [alignment for _, alignment in self._parts(self._stretches(path), times=True)]
        return Alignment(
            [span for part in found for span in part.characters],
            [span for part in found for span in part.words],
            sum(part.log_prob for part in found),
        )

    def align(self, path: str | Path, text: str) -> Alignment:
        """Find when a known text was spoken; for the errors see `read_audio` and `alignment.align`."""
        long = is_long(path, LONGEST_WHOLE)
        letters = self._of_windows(blocks(path, BLOCK)) if long else self.probabilities(read_audio(path))
        return self._times(letters, text)

    def _times(self, letters: np.ndarray, text: str) -> Alignment:
        with using(self.alphabet):
            return align(letters, text, self.clock)

    def _of_windows(self, chunks: Iterable[np.ndarray]) -> np.ndarray:
        """Return class probabilities of long sound, from windows of which the ends are left out."""
        step = round(self.clock.step * SAMPLE_RATE)  # samples from one output frame to the next
        margin, hop = (round(seconds / self.clock.step) for seconds in (NEAR_END, LONGEST_WHOLE))
        waiting, begin, found = np.empty(0, np.float32), 0, []
        for samples in chunks:
            waiting = np.concatenate([waiting, samples])
            if len(waiting) >= 2 * (hop + margin) * step:  # the last window, with what is left, is never a short one
                window = self.probabilities(waiting[: (hop + 2 * margin) * step])
                found.append(window[begin : margin + hop])
                waiting, begin = waiting[hop * step :], margin
        return np.concatenate([*found, self.probabilities(waiting)[begin:]])

    def _parts(self, stretches: Iterable[tuple[float, np.ndarray]], times: bool) -> Iterator[tuple[str, Alignment]]:
        """Yield text and, where asked for, times of each stretch of speech (start, samples) that has any text."""
        nothing = Alignment([], [], 0.0)
        for start, samples in stretches:
            posteriors = self.posteriors(samples)
            text = self.decode(*posteriors)
            if text:
                alignment = self._times(posteriors.letters, text) if times else nothing
                yield text, shift(alignment, start)

    def _stretches(self, path: str | Path) -> Iterator[tuple[float, np.ndarray]]:
        """Yield (start in seconds, samples): a short file as it is when somebody speaks, a long one piece by piece."""
        if not is_long(path):
            samples = read_audio(path)
            if len(samples) < SHORTEST_CHECKED * SAMPLE_RATE or any(speech_or_all(lambda: [samples], path)):
                yield 0.0, samples
            return
        with progress_bar(None, Path(path).name, round(duration(path)), " s", delay=2) as progress:
            for piece in speech_or_all(lambda: blocks(path, BLOCK), path):
                yield piece.start, piece.samples
                progress.update(round(piece.start + len(piece.samples) / SAMPLE_RATE) - progress.n)


def load_recogniser(
    weights: str | Path | None = None, decoding: Decoding | None = None, plain: bool = False
) -> Recogniser:
    """Load a weights file that `train_model` wrote, or the released weights.

    Args:
        weights: path; None: the released weights of this project.
        decoding: with the released weights it begins with the language model that goes with them. None: greedy.
        plain: run the network in NumPy where it can be (`models/plain.py`), which starts without a deep-learning backend.

    Raises:
        FileNotFoundError: when there are no weights, or no such language model; the message says how to make them.
        ValueError: when the file is damaged, not of this project, or a classifier of single words.
    """
    decoding = decoding or Decoding(greedy=True)
    if weights is None:
        decoding = decoding.with_tuned(released_language_model())
    path = released_weights() if weights is None else weights
    metadata = read_metadata(path)
    model = (PlainNetwork.load_if_known(Path(path), metadata) if plain else None) or _keras_model(path)
    if metadata.get("task") == "keywords":
        raise ValueError(
            f"{weights} is a classifier of single words, no recogniser. It is for `vui.py keywords evaluate`, `vui.py keywords "
            "export` and `vui.py spot`."
        )
    width = model.width if isinstance(model, PlainNetwork) else model.input_shape[-1]
    try:
        mean = np.broadcast_to(np.asarray(metadata.get("mean", 0.0), np.float32), width)
        std = np.maximum(np.broadcast_to(np.asarray(metadata.get("std", 1.0), np.float32), width), STD_FLOOR)
        alphabet_of(metadata.get("alphabet", ENGLISH))
        recogniser = Recogniser(model, feature_settings_for(width, metadata), mean, std, metadata)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} says of itself what does not fit its model: {error}") from error
    with using(recogniser.alphabet):
        return dataclasses.replace(recogniser, decoder=_decoder(recogniser.network.phoneme_head is not None, decoding))


def _keras_model(path: str | Path) -> "keras.Model":
    from vuilab.runs.weights import load_model

    return load_model(path)[0]


def _decoder(reads_phonemes: bool, decoding: Decoding) -> BeamDecoder | SoundDecoder | None:
    """Return the search that is asked for; None: greedy, without language model and hot words."""
    language_model = None if decoding.lm is None else load_language_model(decoding.lm)
    if language_model is None and not decoding.hot_words:
        return None
    if language_model and reads_phonemes and decoding.phonemes != 0 and not language_model.of_characters:
        # phonemes are read as words, which a model of characters lacks
        return SoundDecoder(language_model, decoding.sounds, decoding.beam, decoding.bonuses)
    return BeamDecoder(language_model, decoding.beam, decoding.bonuses)


def released_weights() -> Path:
    """Return the released weights.

    Raises:
        FileNotFoundError: when the project holds none yet.
    """
    found = sorted(released_folder().glob("recogniser*.h5"))
    if not found:
        raise FileNotFoundError(
            "There are no released weights yet. Train a model and name its weights, for example:\n"
            "  python vui.py train cnn_birnn_model --epochs 20\n"
            "  python vui.py transcribe FILE --model results/cnn_birnn_model.h5"
        )
    return found[-1]


def released_language_model() -> TunedLanguageModel | None:
    """Return what the run record beside the released weights names; None where there is nothing."""
    record_path = released_weights().with_suffix(".json")
    if not record_path.is_file():
        return None
    used = read_record(record_path).get("evaluation", {}).get("language_model", {})
    path = record_path.with_name(str(used.get("file")))
    if "for_other_recordings" not in used or not path.is_file():
        return None
    sounds = used.get("phonemes", {}).get("for_other_recordings")
    return TunedLanguageModel(path, used["for_other_recordings"], sounds)


def released_recogniser() -> Recogniser:
    """Load the released weights, with their language model where there is one; what `vui.py transcribe` uses by itself."""
    return load_recogniser(decoding=Decoding())
