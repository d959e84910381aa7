"""An epoch as the official CTC example of Keras runs it, for `bench_epoch.py`.

The example reads WAV files in a `tf.data` pipeline, computes short-time spectra there anew in each epoch, takes the utterances
in the order of the list, pads each batch to its longest utterance, trains with `fit`, and after each epoch transcribes the
validation set once more for its word error rate. This is written from that description. Window and step are those of this
project (20 and 10 ms), so that frames and model are equal. In its favour: FLAC files are turned into WAV beforehand, and XLA is
off, which would compile anew for each length of a batch wherever Keras turns it on by itself.
"""

import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers_keras import stock_model, stock_optimizer
from benchmarks.workloads import MODELS
from vuilab.alphabet import ALPHABET

WINDOW, STEP = 320, 160  # samples
EPSILON = 1e-10


class StockCorpus:
    """Batches of (features, labels) from WAV files and their transcripts, in the example's way.

    Args:
        paths: the audio files.
        texts: their transcripts.
        batch: utterances per batch.
    """

    lookup = keras.layers.StringLookup(vocabulary=list(ALPHABET), oov_token="")  # "" is class 0, the blank
    reverse = keras.layers.StringLookup(vocabulary=list(ALPHABET), oov_token="", invert=True)

    def __init__(self, paths: list[str], texts: list[str], batch: int):
        files = tf.data.Dataset.from_tensor_slices((paths, texts))
        encoded = files.map(self.encode, num_parallel_calls=tf.data.AUTOTUNE)
        self.texts = texts
        self.batches = encoded.padded_batch(batch).prefetch(tf.data.AUTOTUNE)

    @classmethod
    def encode(cls, path, text):
        """Return the features (num_frames, 161) and the labels (label_length,) of one file."""
        samples = tf.squeeze(tf.audio.decode_wav(tf.io.read_file(path))[0], axis=-1)
        spectrum = tf.sqrt(tf.abs(tf.signal.stft(samples, WINDOW, STEP, fft_length=WINDOW)))
        mean, deviation = tf.reduce_mean(spectrum, 1, True), tf.math.reduce_std(spectrum, 1, True)
        return (spectrum - mean) / (deviation + EPSILON), cls.lookup(tf.strings.unicode_split(text, "UTF-8"))

    def padding_share(self) -> float:
        """Return the share of frames that are padding, from the lengths of the files."""
        true = padded = 0
        for features, _ in self.batches:
            used = np.abs(features.numpy()).sum(axis=2) > 0
            true += int(used.sum())
            padded += used.size
        return 1 - true / padded


class Transcribe(keras.callbacks.Callback):
    """Transcribes the validation set after each epoch and notes the time, as the example does.

    Args:
        corpus: the validation set.
    """

    def __init__(self, corpus: StockCorpus):
        super().__init__()
        self.corpus = corpus
        self.seconds: list[float] = []
        self.wer: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Decode greedily, score and stop the clock."""
        import jiwer

        texts = []
        for features, _ in self.corpus.batches:
            logits = tf.convert_to_tensor(self.model.predict(features, verbose=0))
            lengths = tf.fill([tf.shape(logits)[0]], tf.shape(logits)[1])
            paths, _ = tf.nn.ctc_greedy_decoder(tf.transpose(logits, (1, 0, 2)), lengths, blank_index=0)
            rows = StockCorpus.reverse(tf.sparse.to_dense(paths[0]))
            texts += [row.decode() for row in tf.strings.reduce_join(rows, axis=1).numpy()]
        self.wer.append(jiwer.wer(self.corpus.texts, texts))
        self.seconds.append(time.perf_counter() - self.started)


def run(model: str, splits: dict[str, tuple[list[str], list[str]]], batch: int, epochs: int) -> dict:
    """Train for some epochs and return the seconds of loading and of each epoch.

    Args:
        model: name in `workloads.MODELS`.
        splits: 'train' and 'validation' -> (paths of WAV files, transcripts).
        batch: utterances per step.
        epochs: how many.
    """
    keras.utils.set_random_seed(0)
    started = time.perf_counter()
    train, validation = (StockCorpus(*splits[split], batch) for split in ("train", "validation"))
    network = stock_model(MODELS[model])
    network.compile(optimizer=stock_optimizer(), loss=keras.losses.CTC(), jit_compile=False)
    transcribe = Transcribe(validation)
    network.fit(train.batches, validation_data=validation.batches, epochs=epochs, callbacks=[transcribe], verbose=0)
    total = time.perf_counter() - started
    return {
        "load_seconds": total - sum(transcribe.seconds),
        "epoch_seconds": transcribe.seconds,
        "padding_share": train.padding_share(),
        "wer": transcribe.wer,
    }


def to_wav(source: Path, target: Path) -> str:
    """Write an audio file as 16-bit WAV at 16 kHz, as the example expects it, and return its path."""
    import soundfile

    from vuilab.audio import SAMPLE_RATE, read_audio

    soundfile.write(target, read_audio(source), SAMPLE_RATE, subtype="PCM_16")
    return str(target)
