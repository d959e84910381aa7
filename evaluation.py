"""How good are the transcripts: word and character error rates with intervals, and tables of predictions.

Error rates are (substitutions + deletions + insertions) / reference length, pooled over the utterances, so they can exceed
100 %. The 95 % intervals come from a bootstrap: over speakers where there are at least ten, else over utterances
stratified by speaker (Bisani and Ney, ICASSP 2004).
"""

import collections
import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rapidfuzz.distance import Levenshtein

from corpora import MANIFESTS
from data_generator import AudioGenerator
from decoding import greedy_decode
from utils import SAMPLE_RATE, FeatureSettings, read_audio

if TYPE_CHECKING:
    import keras

NUM_RESAMPLES = 2000
MIN_SPEAKERS = 10  # from here on whole speakers are drawn


@dataclasses.dataclass(frozen=True)
class ErrorRate:
    """Errors of one kind (characters or words), pooled over utterances."""

    substitutions: int
    deletions: int
    insertions: int
    num_reference: int  # characters or words in the references
    low: float  # limits of the 95 % interval of the rate
    high: float

    @property
    def rate(self) -> float:
        """Errors per reference token; NaN without references."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.num_reference if self.num_reference else float("nan")

    def __str__(self) -> str:
        return (
            f"{100 * self.rate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]  ({self.substitutions} substitutions, "
            f"{self.deletions} deletions, {self.insertions} insertions, {self.num_reference} in all)"
        )

    def as_dict(self) -> dict:
        """Return plain data for records and `--json`."""
        return {"rate": self.rate, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Score:
    """Character and word error rates of a set of utterances."""

    cer: ErrorRate
    wer: ErrorRate
    num_utterances: int
    num_empty: int  # hypotheses without any character
    method: str  # of the intervals
    by_speaker: dict[str, tuple[float, float]]  # speaker -> (CER, WER)

    def as_dict(self) -> dict:
        """Return plain data for records and `--json`."""
        return {
            "cer": self.cer.as_dict(),
            "wer": self.wer.as_dict(),
            "num_utterances": self.num_utterances,
            "empty_share": self.num_empty / self.num_utterances,
            "interval": self.method,
            "by_speaker": {name: {"cer": cer, "wer": wer} for name, (cer, wer) in self.by_speaker.items()},
        }


def edit_counts(reference: Sequence, hypothesis: Sequence) -> tuple[int, int, int]:
    """Count substitutions, deletions and insertions of a shortest edit path.

    Args:
        reference: characters (a string) or words (a list).
        hypothesis: likewise.

    Example:
        >>> edit_counts("kitten", "sitting")
        (2, 0, 1)
    """
    kinds = collections.Counter(operation.tag for operation in Levenshtein.editops(reference, hypothesis))
    return kinds["replace"], kinds["delete"], kinds["insert"]


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    seed: int = 0,
) -> Score:
    """Compute pooled CER and WER with bootstrap intervals.

    Args:
        references: true texts.
        hypotheses: predicted texts, in the same order.
        speakers: of each utterance; None: all unknown.
        seed: of the bootstrap.

    Raises:
        ValueError: when the numbers differ or there are none.
    """
    _require_equal_lengths(references, speakers, hypotheses)
    names = np.array([str(speaker) for speaker in (speakers or ["unknown"] * len(references))])
    characters = count_matrix(references, hypotheses)
    words = count_matrix([text.split() for text in references], [text.split() for text in hypotheses])
    draws, method = _resamples(names, seed)
    by_speaker = {
        name: (_rate(characters[names == name].sum(axis=0)), _rate(words[names == name].sum(axis=0)))
        for name in np.unique(names)
    }
    return Score(
        cer=_error_rate(characters, draws),
        wer=_error_rate(words, draws),
        num_utterances=len(references),
        num_empty=sum(not text for text in hypotheses),
        method=method,
        by_speaker=by_speaker,
    )


def count_matrix(references: Sequence[Sequence], hypotheses: Sequence[Sequence]) -> np.ndarray:
    """Return (num_utterances, 4): substitutions, deletions, insertions and reference length."""
    rows = [(*edit_counts(ref, hyp), len(ref)) for ref, hyp in zip(references, hypotheses, strict=True)]
    return np.array(rows, np.int64).reshape(-1, 4)


def paired_difference(
    references: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    unit: str = "char",
    seed: int = 0,
) -> tuple[float, float, float]:
    """Compare two models on the same utterances: error rate of `second` minus that of `first`.

    Args:
        references: true texts.
        first: texts of one model.
        second: texts of the other.
        speakers: of each utterance.
        unit: 'char' or 'word'.
        seed: of the bootstrap.

    Returns:
        (difference, low, high) with a paired 95 % bootstrap interval.

    Raises:
        ValueError: when the numbers differ or there are none.
    """
    _require_equal_lengths(references, speakers, first, second)
    split = {"char": str, "word": str.split}[unit]
    counts = [
        count_matrix([split(text) for text in references], [split(text) for text in texts]) for texts in (first, second)
    ]
    names = np.array([str(speaker) for speaker in (speakers or ["unknown"] * len(references))])
    draws, _ = _resamples(names, seed)
    rates = [_bootstrap_rates(matrix, draws) for matrix in counts]
    low, high = np.nanquantile(rates[1] - rates[0], [0.025, 0.975])
    return _rate(counts[1].sum(axis=0)) - _rate(counts[0].sum(axis=0)), float(low), float(high)


def _require_equal_lengths(references: Sequence, speakers: Sequence | None, *hypotheses: Sequence) -> None:
    numbers = [len(texts) for texts in hypotheses] + ([] if speakers is None else [len(speakers)])
    if not len(references) or any(number != len(references) for number in numbers):
        raise ValueError(
            f"Expected as many hypotheses (and speakers) as references, at least one. Received: {len(references)} "
            f"references, {' and '.join(str(len(texts)) for texts in hypotheses)} hypotheses"
            + ("." if speakers is None else f", {len(speakers)} speakers.")
        )


def _resamples(names: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Return how often each utterance is drawn in each resample, (NUM_RESAMPLES, num_utterances), and the method."""
    rng = np.random.default_rng(seed)
    unique, speaker = np.unique(names, return_inverse=True)
    if len(unique) >= MIN_SPEAKERS:
        drawn = rng.multinomial(len(unique), np.full(len(unique), 1 / len(unique)), size=NUM_RESAMPLES)
        return drawn[:, speaker], f"bootstrap over {len(unique)} speakers"
    weights = np.zeros((NUM_RESAMPLES, len(names)), np.int64)
    for number in range(len(unique)):
        members = np.flatnonzero(speaker == number)
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=NUM_RESAMPLES)
    return weights, f"bootstrap over utterances, stratified by speaker ({len(unique)})"


def _bootstrap_rates(matrix: np.ndarray, draws: np.ndarray) -> np.ndarray:
    errors, length = draws @ matrix[:, :3].sum(axis=1), draws @ matrix[:, 3]
    return np.divide(errors, length, out=np.full(len(draws), np.nan), where=length > 0)


def _rate(totals: np.ndarray) -> float:
    return float(totals[:3].sum() / totals[3]) if totals[3] else float("nan")


def _error_rate(matrix: np.ndarray, draws: np.ndarray) -> ErrorRate:
    low, high = np.nanquantile(_bootstrap_rates(matrix, draws), [0.025, 0.975])
    substitutions, deletions, insertions, length = (int(total) for total in matrix.sum(axis=0))
    return ErrorRate(substitutions, deletions, insertions, length, float(low), float(high))


# ----------------------------------------------------------------------------------------------- confusions


def confusions(references: Sequence[str], hypotheses: Sequence[str], unit: str = "char") -> collections.Counter:
    """Count what was taken for what: pairs (true, predicted), '' standing for nothing.

    Args:
        references: true texts.
        hypotheses: predicted texts.
        unit: 'char' or 'word'.
    """
    split = {"char": list, "word": str.split}[unit]
    pairs: collections.Counter = collections.Counter()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        true, predicted = split(reference), split(hypothesis)
        for operation in Levenshtein.editops(true, predicted):
            source = true[operation.src_pos] if operation.tag != "insert" else ""
            target = predicted[operation.dest_pos] if operation.tag != "delete" else ""
            pairs[source, target] += 1
    return pairs


def marked(reference: str, hypothesis: str, markup: str = "text") -> str:
    """Return the hypothesis with its differences from the reference marked, character by character.

    Args:
        reference: the true text.
        hypothesis: the predicted text.
        markup: 'text': wrong characters in [brackets], missing ones as {braces}; 'html': bold and struck through.

    Example:
        >>> marked("the cat sat", "the kat at")
        'the [k]at {s}at'
    """
    wrong, missing = ("<b>{}</b>", "<del>{}</del>") if markup == "html" else ("[{}]", "{{{}}}")
    escape = html.escape if markup == "html" else str
    pieces = []
    for block in Levenshtein.opcodes(reference, hypothesis):
        true, predicted = (
            reference[block.src_start : block.src_end],
            hypothesis[block.dest_start : block.dest_end],
        )
        if block.tag == "equal":
            pieces.append(escape(predicted))
        elif block.tag == "delete":
            pieces.append(missing.format(escape(true)))
        else:
            pieces.append(wrong.format(escape(predicted)))
    return "".join(pieces)


# ----------------------------------------------------------------------------------------------- predictions


def feature_settings_for(width: int, metadata: dict | None = None) -> FeatureSettings:
    """Return the feature settings of a model: those saved with it, else guessed from its input width.

    Raises:
        ValueError: when the width belongs to no kind of features and nothing is saved.
    """
    if metadata and "features" in metadata:
        return FeatureSettings(**metadata["features"])
    if width == 161:
        return FeatureSettings("spectrogram")
    if width == 1:
        return FeatureSettings("raw")
    if width <= 26:
        return FeatureSettings("mfcc", mfcc_dim=width)
    raise ValueError(
        f"No features are {width} wide: a spectrogram has 161, MFCCs up to 26, raw audio 1. Save the settings with the weights."
    )


def predict_texts(model: "keras.Model", generator: AudioGenerator, partition: str) -> list[str]:
    """Transcribe every utterance of a partition greedily, in the order of its manifest.

    Args:
        model: the acoustic model.
        generator: with the partition loaded and the model's statistics set.
        partition: 'train', 'validation' or 'test'.
    """
    return [greedy_decode(rows) for rows in predict_probabilities(model, generator, partition)]


def predict_probabilities(model: "keras.Model", generator: AudioGenerator, partition: str) -> list[np.ndarray]:
    """Return the class probabilities of every utterance of a partition, in the order of its manifest, without padding.

    Args:
        model: the acoustic model.
        generator: with the partition loaded and the model's statistics set.
        partition: 'train', 'validation' or 'test'.

    Returns:
        One array (num_output_frames, num_classes) for each utterance.
    """
    found: list[np.ndarray] = [np.empty((0, 0))] * len(generator.num_frames(partition))
    for indices in generator.plan(partition):
        inputs, _ = generator.assemble(partition, indices)
        probabilities = np.asarray(model.predict_on_batch(inputs["the_input"]))
        lengths = model.output_length(inputs["input_length"])
        for index, rows, length in zip(indices, probabilities, lengths, strict=True):
            found[index] = rows[: int(length)]
    return found


def generator_for(
    metadata: dict,
    width: int,
    manifest: str | Path,
    partition: str,
    max_duration: float | None = None,
    minibatch_size: int = 20,
) -> AudioGenerator:
    """Return a generator that prepares a manifest as a trained model expects it."""
    generator = AudioGenerator(
        settings=feature_settings_for(width, metadata),
        max_duration=max_duration,
        minibatch_size=minibatch_size,
    )
    generator.load(partition, manifest)
    if "mean" in metadata:
        generator.set_statistics(np.array(metadata["mean"]), np.array(metadata["std"]))
    return generator


def get_predictions(
    index: int, partition: str, input_to_softmax: "keras.Model", model_path: str | Path, play: bool = True
) -> tuple[str, str]:
    """Play one utterance, print its true text and what the model makes of it.

    Args:
        index: number of the utterance in its manifest.
        partition: 'train', 'validation' or 'test' of the active corpus.
        input_to_softmax: the model; features are computed as its weights file says.
        model_path: weights; a bare name is looked for under `results/`.
        play: show an audio player (in a notebook).

    Returns:
        (true text, predicted text).

    Raises:
        IndexError: when there is no such utterance.
    """
    import records

    if partition not in MANIFESTS:
        raise ValueError(f"partition must be one of {list(MANIFESTS)}. Received: partition={partition!r}")
    metadata = records.load_weights(input_to_softmax, records.results_path(model_path))
    generator = generator_for(metadata, input_to_softmax.input_shape[-1], MANIFESTS[partition], partition)
    utterances = generator.partitions[partition].utterances
    if not -len(utterances) <= index < len(utterances):
        raise IndexError(f"The {partition} set has {len(utterances)} utterances. Received: index={index}")
    utterance = utterances[index]
    feature = generator.normalize(generator.featurize(utterance.path))
    probabilities = np.asarray(input_to_softmax.predict_on_batch(feature[None]))[0]
    predicted = greedy_decode(probabilities)
    if play:
        from IPython.display import display

        display(audio_player(utterance.path))
    print(f"True text:      {utterance.text}\nPredicted text: {predicted}")
    return utterance.text, predicted


def audio_player(audio: str | Path | np.ndarray, sample_rate: int = SAMPLE_RATE):
    """Return a notebook player that embeds an utterance as a compressed OGG file.

    Args:
        audio: a file, or a waveform (num_samples,) in -1..1.
        sample_rate: of the waveform in Hz; a file is brought to 16 kHz.
    """
    import io

    import soundfile
    from IPython.display import Audio

    buffer = io.BytesIO()
    if not isinstance(audio, np.ndarray):
        audio, sample_rate = read_audio(audio), SAMPLE_RATE
    soundfile.write(buffer, audio, sample_rate, format="OGG", subtype="VORBIS")
    return Audio(data=buffer.getvalue())


def print_predictions(
    models: Sequence[tuple["keras.Model", str | Path]],
    number: int = 20,
    partition: str = "validation",
    names: Sequence[str] | None = None,
) -> None:
    """Print what several models make of the same utterances, shortest first, with errors marked and the CER of each line.

    Args:
        models: pairs (model, weights path).
        number: of utterances.
        partition: 'train', 'validation' or 'test' of the active corpus.
        names: what to call the models; None: by their files.
    """
    import records

    columns, utterances = [], []
    for (model, path), name in zip(models, names or [Path(path).name for _, path in models], strict=True):
        metadata = records.load_weights(model, records.results_path(path))
        generator = generator_for(metadata, model.input_shape[-1], MANIFESTS[partition], partition)
        utterances = generator.partitions[partition].utterances
        columns.append((name, predict_texts(model, generator, partition)))
    for index in sorted(range(len(utterances)), key=lambda i: utterances[i].duration)[:number]:
        text = utterances[index].text
        print(f"{'true':>16}  {text}")
        for name, texts in columns:
            rate = sum(edit_counts(text, texts[index])) / len(text)
            print(f"{name[:16]:>16}  {marked(text, texts[index])}  (CER {100 * rate:.0f} %)")
        print()
