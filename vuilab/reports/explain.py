"""What the notebook says about trained models and their decoding: tables and pictures from weights, histories and transcripts.

Where they are asked for, `weights` is a file that `train_model` wrote, `corpus` a folder with manifests, and `partition` 'train',
'validation' or 'test'. Tables are Markdown where nothing else is said.
"""

import dataclasses
import html
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vuilab.corpus.manifest import MANIFESTS, Utterance, read_manifest
from vuilab.decoding.alignment import align, boundary_errors
from vuilab.decoding.beam import BeamDecoder
from vuilab.decoding.greedy import class_labels, greedy_decode
from vuilab.decoding.kneser_ney import train_ngram
from vuilab.decoding.ngram import NGramModel
from vuilab.decoding.settings import BeamSettings
from vuilab.figures import plot_alignment, plot_words
from vuilab.inference.transcribe import load_recogniser
from vuilab.scoring.comparison import RunResult
from vuilab.scoring.error_rates import Score, confusions, count_errors, edit_counts, marked, score
from vuilab.scoring.predictions import generator_for, predict_probabilities
from vuilab.scoring.tuning import ALPHAS, BETAS, choose, tune
from vuilab.text import facts_table, markdown_rows, percent_with_interval

ORDER = 3  # of the language model made from the training sentences
UNSEEN, KNOWN = "with a word that training never had", "known words only"
SHOWN_AS = {"": "(nothing)", " ": "␣"}  # among the confusions


def ceiling_table(probabilities: np.ndarray, ceiling: float) -> str:
    """Return the highest probabilities of a trained model 0 beside the ceiling that tanh sets.

    Args:
        probabilities: (..., num_output_frames, num_classes) of a trained model 0.
        ceiling: highest probability that logits in -1..1 can give.
    """
    peaks, floor = np.asarray(probabilities).max(axis=-1), -math.log(ceiling)
    return facts_table(
        {
            "ceiling": f"{ceiling:.3f}",
            "highest probability in any frame": f"{peaks.max():.3f}",
            "highest probability, mean over the frames": f"{peaks.mean():.3f}",
            "what a path loses per frame, at least": f"{floor:.2f} nats",
            f"over the {peaks.shape[-1]} frames of this utterance": f"{floor * peaks.shape[-1]:.0f} nats",
        }
    )


def divergence_table(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return for each run (what it is -> its history) its last training loss that was finite and where it became undefined."""
    rows = []
    for name, history in histories.items():
        losses = np.asarray(history["loss"], float)
        finite, bad = losses[np.isfinite(losses)], np.flatnonzero(~np.isfinite(losses))
        last = f"{finite[-1]:.1f}" if len(finite) else ""
        rows.append([name, f"{len(losses)}", last, f"epoch {bad[0] + 1}" if len(bad) else "never"])
    return markdown_rows(["run", "epochs", "last finite loss (nats)", "loss undefined (NaN) from"], rows)


def best_run(runs: Sequence[RunResult]) -> RunResult:
    """Return the run with the lowest validation CER at its chosen epoch, or the lowest loss where no CER is known.

    Raises:
        ValueError: when no run has a finite result.
    """

    def reached(run: RunResult) -> list[float]:
        curves = (run.series(key) for key in ("val_cer", "val_loss"))
        return [min(values[np.isfinite(values)], default=math.inf) for values in curves]

    best = min(runs, key=reached)
    if not np.isfinite(reached(best)).any():
        raise ValueError(f"None of {[run.name for run in runs]} has a finite validation result. Train a model again.")
    return best


# ------------------------------------------------------------------------------------------- error rates


def error_table(scores: Mapping[str, Score], what: str = "sentences") -> str:
    """Return error rates with their intervals; `what` was scored, the keys, is the heading of the first column."""
    rows = []
    for name, result in scores.items():
        kinds = f"{result.cer.substitutions}, {result.cer.deletions}, {result.cer.insertions}"
        rates = (percent_with_interval(rate.rate, rate.low, rate.high) for rate in (result.cer, result.wer))
        rows.append([name, f"{result.num_utterances}", *rates, kinds])
    head = [what, "number", "CER % [95 %]", "WER % [95 %]", "characters wrong, missing, too many"]
    return markdown_rows(head, rows)


def _parts(utterances: Sequence[Utterance]) -> dict[str, np.ndarray]:
    """Return rows of all utterances and, where there are both, of those with and without a word that training never had."""
    unseen = np.array([bool(utterance.extra.get("unseen_words")) for utterance in utterances])
    parts = {"all": np.arange(len(utterances))}
    if unseen.any() and not unseen.all():
        parts |= {UNSEEN: np.flatnonzero(unseen), KNOWN: np.flatnonzero(~unseen)}
    return parts


def _score(utterances: Sequence[Utterance], texts: Sequence[str], rows: Sequence[int] | None = None) -> Score:
    rows = range(len(utterances)) if rows is None else rows
    chosen = [utterances[row] for row in rows]
    return score([one.text for one in chosen], [texts[row] for row in rows], [one.speaker for one in chosen])


@dataclasses.dataclass(frozen=True)
class EvaluationReport:
    """The transcripts of one partition by one model."""

    utterances: list[Utterance]
    texts: list[str]

    @property
    def score(self) -> Score:
        """Error rates of all utterances."""
        return _score(self.utterances, self.texts)

    def markdown(self) -> str:
        """Return the error rates as a Markdown table."""
        parts = _parts(self.utterances).items()
        table = error_table({name: _score(self.utterances, self.texts, rows) for name, rows in parts})
        return f"{table}\n\n{len(self.score.by_speaker)} speakers. Intervals: {self.score.method}."

    def confusions_markdown(self, number: int = 8) -> str:
        """Return the most frequent confusions of characters and words as a Markdown table."""
        columns, references = [], [utterance.text for utterance in self.utterances]
        for unit in ("char", "word"):
            found = confusions(references, self.texts, unit).most_common(number)
            columns.append([(" → ".join(SHOWN_AS.get(text, text) for text in pair), f"{n}") for pair, n in found])
        rows = [[*left, *right] for left, right in itertools.zip_longest(*columns, fillvalue=("", ""))]
        return markdown_rows(["characters", "times", "words", "times"], rows)


def evaluate_partition(weights: str | Path, corpus: str | Path, partition: str) -> EvaluationReport:
    """Transcribe a partition of a corpus with a trained model, every utterance of it."""
    heard = _Heard(weights, corpus, partition)
    return EvaluationReport(heard.utterances, [greedy_decode(rows) for rows in heard.probabilities()])


def prediction_table(weights: str | Path, corpus: str | Path, partition: str, number: int = 6) -> str:
    """Return an HTML table of true and predicted texts, evenly spread over the lengths, with the errors marked."""
    heard = _Heard(weights, corpus, partition)
    by_length = sorted(range(len(heard.utterances)), key=lambda index: heard.utterances[index].duration)
    rows = []
    for place in np.linspace(0, len(by_length) - 1, min(number, len(by_length))).astype(int):
        utterance, _, probabilities = heard.one(by_length[place])
        text, predicted = utterance.text, greedy_decode(probabilities)
        rate = 100 * sum(edit_counts(text, predicted)) / len(text)
        rows.append([html.escape(text), marked(text, predicted, "html"), f"{rate:.0f}"])
    return _html_table(f"{partition} set", ["true text", "predicted text", "CER %"], rows)


def _html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table of left-aligned cells, which are markup."""
    lines = [f"<caption>{html.escape(caption)}</caption>"]
    for tag, row in [("th", head), *(("td", row) for row in rows)]:
        lines.append("<tr>" + "".join(f"<{tag} style='text-align:left'>{cell}</{tag}>" for cell in row) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


# --------------------------------------------------------------------------------------- letters and words in time


def alignment_figure(weights: str | Path, corpus: str | Path, partition: str, index: int = 0) -> tuple[Figure, str]:
    """Draw the per-frame probabilities of one utterance under its spectrogram; return the figure and its alt text."""
    heard = _Heard(weights, corpus, partition)
    utterance, feature, probabilities = heard.one(index)
    predicted, labels = greedy_decode(probabilities), class_labels(probabilities.shape[1])
    figure = plot_alignment(feature, probabilities, labels, heard.generator.settings.step, f"predicted: {predicted}")
    blank = float((probabilities.argmax(axis=1) == probabilities.shape[1] - 1).mean())
    return figure, (
        f"Spectrogram of '{utterance.text}' above the probability of each character over time; the blank wins "
        f"{100 * blank:.0f} % of the frames, and the spikes between read '{predicted}'."
    )


def word_figure(weights: str | Path, corpus: str | Path, partition: str, index: int = 0) -> tuple[Figure, str]:
    """Draw when each word of an utterance was spoken, beside the true times where the corpus has them; return alt text too."""
    heard = _Heard(weights, corpus, partition)
    utterance, feature, probabilities = heard.one(index)
    found = align(probabilities, utterance.text, heard.recogniser.clock)
    words = [(span.text, span.start, span.end) for span in found.words]
    figure = plot_words(feature, words, utterance.extra.get("words"), heard.generator.settings.step)
    times = ", ".join(f"{word} {start:.2f} to {end:.2f} s" for word, start, end in words)
    return figure, f"Spectrogram with the words where the alignment puts them: {times}."


def boundary_table(weights: str | Path, corpus: str | Path, partition: str) -> str:
    """Return how close aligned word boundaries are to the true ones; without true times it counts none."""
    heard = _Heard(weights, corpus, partition)
    errors = [
        boundary_errors(align(rows, utterance.text, heard.recogniser.clock), utterance.extra["words"])
        for rows, utterance in zip(heard.probabilities(), heard.utterances, strict=True)
        if utterance.extra.get("words")
    ]
    milliseconds = 1000 * np.concatenate([np.zeros(0), *errors])
    facts = {"word boundaries whose true time is known": f"{len(milliseconds)}"}
    if len(milliseconds):
        facts["median error"] = f"{np.median(np.abs(milliseconds)):.0f} ms"
        facts["95th percentile"] = f"{np.percentile(np.abs(milliseconds), 95):.0f} ms"
        facts["median, early (-) or late (+)"] = f"{np.median(milliseconds):+.0f} ms"
    return facts_table(facts)


# -------------------------------------------------------------------------------------------- language model


@dataclasses.dataclass(frozen=True)
class DecodingReport:
    """The transcripts of one partition, greedy and with a language model."""

    partition: str
    chosen: str  # how alpha and beta were chosen
    utterances: list[Utterance]
    greedy: list[str]
    fused: list[str]
    alpha: float
    beta: float
    num_words: int  # of the language model

    def scores(self) -> tuple[Score, Score]:
        """Return the error rates, greedy and with the model."""
        return _score(self.utterances, self.greedy), _score(self.utterances, self.fused)

    def markdown(self) -> str:
        """Return the error rates as a Markdown table, with the change of the WER, paired by utterance."""
        lines, references = [], [one.text for one in self.utterances]
        speakers = [one.speaker for one in self.utterances]
        counts = [count_errors(references, texts, speakers) for texts in (self.greedy, self.fused)]
        for label, rows in _parts(self.utterances).items():
            pair = [part.of(rows) for part in counts]
            change, low, high = pair[0].difference(pair[1], "word")
            cells = [percent_with_interval(*part.rate(unit)) for unit in ("char", "word") for part in pair]
            lines.append([label, f"{len(rows)}", *cells, f"{100 * change:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"])
        head = [f"sentences of the {self.partition} set", "number", "CER % greedy", "CER % with LM"]
        table = markdown_rows([*head, "WER % greedy", "WER % with LM", "change of WER"], lines)
        return (
            f"{table}\n\nBeam search with a word {ORDER}-gram of the training sentences ({self.num_words} words), alpha "
            f"{self.alpha:g} and beta {self.beta:g} {self.chosen}."
        )

    def examples(self, number: int = 6) -> str:
        """Return an HTML table of the utterances that the model changes most, with the errors marked."""
        changes = []
        for utterance, *texts in zip(self.utterances, self.greedy, self.fused, strict=True):
            greedy, fused = (sum(edit_counts(utterance.text.split(), text.split())) for text in texts)
            if texts[0] != texts[1]:
                cells = [html.escape(utterance.text), *(marked(utterance.text, text, "html") for text in texts)]
                changes.append((abs(greedy - fused), cells))
        rows = [cells for _, cells in sorted(changes, key=lambda change: -change[0])[:number]]
        head = ["true text", "greedy", "with the language model"]
        return _html_table(f"The largest changes in the {self.partition} set", head, rows)


def compare_decoding(
    weights: str | Path, corpus: str | Path, partition: str, beam_width: int = 50, max_utterances: int = 60
) -> DecodingReport:
    """Decode a partition greedily and with a language model made from the corpus' own training sentences.

    Alpha and beta are chosen on the validation set, whose own speakers are each decoded with those that are best for the others.

    Args:
        weights, corpus, partition: see above; not 'train'.
        beam_width: texts that the search keeps.
        max_utterances: so many are decoded with each pair of weights to choose them.
    """
    model = train_ngram((utterance.text for utterance in read_manifest(Path(corpus) / MANIFESTS["train"])), ORDER)
    settings = BeamSettings(beam_width=beam_width)
    heard = _Heard(weights, corpus, "validation")
    rows, utterances = heard.probabilities(), heard.utterances
    references, speakers = [one.text for one in utterances], [one.speaker for one in utterances]
    alpha, beta, grid = settings.alpha, settings.beta, (ALPHAS[::2], BETAS[::2])
    if partition != "validation":
        step, chosen = max(1, len(utterances) // max_utterances), "chosen on the validation set"
        alpha, beta = choose(rows[::step], references[::step], model, settings, *grid)
        heard = _Heard(weights, corpus, partition)
        rows, utterances = heard.probabilities(), heard.utterances
        fused = _decode(rows, model, settings, alpha, beta)
    elif None in speakers or len(set(speakers)) < 2:
        fused = _decode(rows, model, settings, alpha, beta)
        chosen = "by default (there is no other speaker to choose them on)"
    else:
        tuned = tune(rows, references, speakers, model, settings, *grid, progress=False)
        fused, (alpha, beta), chosen = tuned.texts, tuned.best, "on average, chosen for each speaker on the others"
    greedy, num_words = [greedy_decode(frames) for frames in rows], len(model.words) - 3  # without begin, end, unknown
    return DecodingReport(partition, chosen, utterances, greedy, fused, alpha, beta, num_words)


def _decode(rows: list[np.ndarray], model: NGramModel, settings: BeamSettings, alpha: float, beta: float) -> list[str]:
    decoder = BeamDecoder(model, dataclasses.replace(settings, alpha=alpha, beta=beta))
    return [found[0].text for found in decoder.decode_batch(rows)]


class _Heard:
    """A partition of a corpus, as a trained model hears it."""

    def __init__(self, weights: str | Path, corpus: str | Path, partition: str):
        self.recogniser, self.partition = load_recogniser(weights), partition
        metadata, width = self.recogniser.metadata, self.recogniser.settings.num_features
        self.generator = generator_for(metadata, width, Path(corpus) / MANIFESTS[partition], partition)
        self.utterances = self.generator.partitions[partition].utterances

    def one(self, index: int) -> tuple[Utterance, np.ndarray, np.ndarray]:
        feature = self.generator.features(self.partition, index)
        return self.utterances[index], feature, np.asarray(self.recogniser.model.predict_on_batch(feature[None]))[0]

    def probabilities(self) -> list[np.ndarray]:
        return predict_probabilities(self.recogniser.model, self.generator, self.partition)
