"""What a model makes of a corpus: its probabilities and texts, and tables of predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vuilab.alphabet import current, using
from vuilab.audio import SAMPLE_RATE, read_audio
from vuilab.corpus.manifest import MANIFESTS
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.decoding.greedy import Posteriors, greedy_decode
from vuilab.features import FeatureSettings
from vuilab.scoring.error_rates import edit_counts, marked

if TYPE_CHECKING:
    import keras


def feature_settings_for(width: int, metadata: dict | None = None) -> FeatureSettings:
    """Return the feature settings of a model: those saved with it, else guessed from its input width.

    Raises:
        ValueError: when the width belongs to no kind of features and nothing is saved.
    """
    if metadata and "features" in metadata:
        return FeatureSettings(**metadata["features"])
    if width in (1, 161):
        return FeatureSettings("raw" if width == 1 else "spectrogram")
    if width <= 26:
        return FeatureSettings("mfcc", mfcc_dim=width)
    raise ValueError(
        f"No features are {width} wide: a spectrogram has 161, MFCCs up to 26, raw audio 1. Save the settings with the weights."
    )


def predict_texts(model: "keras.Model", generator: BatchGenerator, partition: str) -> list[str]:
    """Transcribe every utterance of a partition greedily, in the order of its manifest; see `predict_posteriors`."""
    with using(generator.alphabet):
        return [greedy_decode(rows) for rows in predict_probabilities(model, generator, partition)]


def predict_probabilities(model: "keras.Model", generator: BatchGenerator, partition: str) -> list[np.ndarray]:
    """Return (num_output_frames, num_classes) probabilities of every utterance of a partition; see `predict_posteriors`."""
    return [posteriors.letters for posteriors in predict_posteriors(model, generator, partition, phonemes=False)]


def predict_posteriors(
    model: "keras.Model", generator: BatchGenerator, partition: str, phonemes: bool = True
) -> list[Posteriors]:
    """Return what a model makes of every utterance of a partition, in the order of its manifest, without padding.

    Args:
        model: the acoustic model.
        generator: with the partition loaded and the model's statistics set.
        partition: 'train', 'validation' or 'test'.
        phonemes: those too, where the model learnt them.
    """
    from vuilab.models.acoustic import with_phonemes

    both = with_phonemes(model) if phonemes else None
    found: list[Posteriors] = [Posteriors(np.empty((0, 0)))] * len(generator.num_frames(partition))
    for indices in generator.plan(partition):
        inputs, _ = generator.assemble(partition, indices)
        outputs = (both or model).predict_on_batch(inputs["the_input"])
        parts = [np.asarray(part) for part in (outputs if both else [outputs])]
        lengths = model.output_length(inputs["input_length"])
        for row, (index, length) in enumerate(zip(indices, lengths, strict=True)):
            found[index] = Posteriors(*(part[row, : int(length)] for part in parts))
    return found


def generator_for(
    metadata: dict,
    width: int,
    manifest: str | Path,
    partition: str,
    max_duration: float | None = None,
    minibatch_size: int = 20,
) -> BatchGenerator:
    """Return a generator that prepares a manifest as a trained model expects it, or without saved statistics as it is."""
    with using(metadata.get("alphabet", current())):
        generator = BatchGenerator(feature_settings_for(width, metadata), DataOptions(minibatch_size, max_duration))
    generator.load(partition, manifest)
    mean, std = metadata.get("mean", np.zeros(width)), metadata.get("std", np.ones(width))
    generator.set_statistics(np.array(mean), np.array(std))
    return generator


def _generator_of(model: "keras.Model", path: str | Path, partition: str) -> BatchGenerator:
    """Load weights into a model, and return a generator over a partition of the active corpus as those expect it."""
    from vuilab.runs.record import results_path
    from vuilab.runs.weights import load_weights

    if partition not in MANIFESTS:
        raise ValueError(f"partition must be one of {list(MANIFESTS)}. Received: partition={partition!r}")
    metadata = load_weights(model, results_path(path))
    return generator_for(metadata, model.input_shape[-1], MANIFESTS[partition], partition)


def get_predictions(
    index: int, partition: str, input_to_softmax: "keras.Model", model_path: str | Path, play: bool = True
) -> tuple[str, str]:
    """Play one utterance; print and return its true text and what the model makes of it.

    Args:
        index, partition: number of the utterance in 'train', 'validation' or 'test' of the active corpus.
        input_to_softmax: the model; features are computed as its weights file says.
        model_path: weights; a bare name is looked for under `results/`.
        play: show an audio player (in a notebook).

    Raises:
        IndexError: when there is no such utterance.
    """
    generator = _generator_of(input_to_softmax, model_path, partition)
    utterances = generator.partitions[partition].utterances
    if not -len(utterances) <= index < len(utterances):
        raise IndexError(f"The {partition} set has {len(utterances)} utterances. Received: index={index}")
    utterance = utterances[index]
    feature = generator.normalize(generator.featurize(utterance.path))
    with using(generator.alphabet):
        predicted = greedy_decode(np.asarray(input_to_softmax.predict_on_batch(feature[None]))[0])
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
        models, names: pairs (model, weights path), and what to call the models; None: by their files.
        number, partition: of utterances, out of 'train', 'validation' or 'test' of the active corpus.
    """
    columns, utterances = [], []
    for (model, path), name in zip(models, names or [Path(path).name for _, path in models], strict=True):
        generator = _generator_of(model, path, partition)
        utterances = generator.partitions[partition].utterances
        columns.append((name, predict_texts(model, generator, partition)))
    for index in sorted(range(len(utterances)), key=lambda i: utterances[i].duration)[:number]:
        text = utterances[index].text
        print(f"{'true':>16}  {text}")
        for name, texts in columns:
            rate = sum(edit_counts(text, texts[index])) / len(text)
            print(f"{name[:16]:>16}  {marked(text, texts[index])}  (CER {100 * rate:.0f} %)")
        print()
