"""What the notebook says about trained models and their decoding: tables and pictures from weights, histories and transcripts."""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vuilab.corpus.manifest import MANIFESTS, Utterance, read_manifest
from vuilab.data.generator import BatchGenerator
from vuilab.decoding.alignment import align, boundary_errors
from vuilab.decoding.beam import BeamDecoder
from vuilab.decoding.greedy import class_labels, greedy_decode
from vuilab.decoding.kneser_ney import train_ngram
from vuilab.decoding.ngram import NGramModel
from vuilab.decoding.settings import BeamSettings
from vuilab.figures import plot_alignment, plot_words
from vuilab.inference.transcribe import Recogniser, load_recogniser
from vuilab.scoring.comparison import RunResult
from vuilab.scoring.error_rates import Score, confusions, edit_counts, marked, paired_difference, score
from vuilab.scoring.predictions import generator_for, predict_probabilities, predict_texts
from vuilab.scoring.tuning import ALPHAS, BETAS, choose, tune
from vuilab.text import facts_table, markdown_rows, percent_with_interval

ORDER = 3  # of the language model made from the training sentences
UNSEEN, KNOWN = "with a word that training never had", "known words only"


def ceiling_table(probabilities: np.ndarray, ceiling: float) -> str:
    """Return the highest probabilities of a trained model 0 beside the ceiling that tanh sets, as a Markdown table.

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
    """Return for each run its last training loss that was finite and where it became undefined, as a Markdown table.

    Args:
        histories: what the run is -> its history.
    """
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

    def key(run: RunResult) -> tuple[float, float]:
        rates = run.series("val_cer")
        rate = float(np.nanmin(rates)) if np.isfinite(rates).any() else math.inf
        return rate, run.best_loss if math.isfinite(run.best_loss) else math.inf

    best = min(runs, key=key)
    if key(best) == (math.inf, math.inf):
        raise ValueError(f"None of {[run.name for run in runs]} has a finite validation result. Train a model again.")
    return best


# ------------------------------------------------------------------------------------------- error rates


def error_table(scores: Mapping[str, Score], what: str = "sentences") -> str:
    """Return error rates with their intervals as a Markdown table.

    Args:
        scores: what was scored -> its score.
        what: heading of the first column.
    """
    rows = []
    for name, result in scores.items():
        kinds = ", ".join(
            f"{count}" for count in (result.cer.substitutions, result.cer.deletions, result.cer.insertions)
        )
        rows.append([name, f"{result.num_utterances}", _rate(result.cer), _rate(result.wer), kinds])
    head = [what, "number", "CER % [95 %]", "WER % [95 %]", "characters wrong, missing, too many"]
    return markdown_rows(head, rows)


def _rate(rate) -> str:
    return percent_with_interval(rate.rate, rate.low, rate.high)


def _parts(utterances: Sequence[Utterance]) -> dict[str, np.ndarray]:
    """Return rows of all utterances and, where there are both, of those with and without a word that training never had."""
    unseen = np.array([bool(utterance.extra.get("unseen_words")) for utterance in utterances])
    parts = {"all": np.arange(len(utterances))}
    if unseen.any() and not unseen.all():
        parts |= {UNSEEN: np.flatnonzero(unseen), KNOWN: np.flatnonzero(~unseen)}
    return parts


def _score(utterances: Sequence[Utterance], texts: Sequence[str], rows: Sequence[int]) -> Score:
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
        return _score(self.utterances, self.texts, range(len(self.texts)))

    def markdown(self) -> str:
        """Return the error rates as a Markdown table."""
        parts = _parts(self.utterances).items()
        table = error_table({name: _score(self.utterances, self.texts, rows) for name, rows in parts})
        return f"{table}\n\n{len(self.score.by_speaker)} speakers. Intervals: {self.score.method}."

    def confusions_markdown(self, number: int = 8) -> str:
        """Return the most frequent confusions of characters and words as a Markdown table."""
        references = [utterance.text for utterance in self.utterances]
        columns = [confusions(references, self.texts, unit).most_common(number) for unit in ("char", "word")]
        rows = []
        for row in range(max(map(len, columns))):
            found = [column[row] if row < len(column) else (None, "") for column in columns]
            rows.append([cell for pair, count in found for cell in (_arrow(*pair) if pair else "", f"{count}")])
        return markdown_rows(["characters", "times", "words", "times"], rows)


def _arrow(true: str, predicted: str) -> str:
    names = {"": "(nothing)", " ": "␣"}
    return f"{names.get(true, true)} → {names.get(predicted, predicted)}"


def evaluate_partition(weights: str | Path, corpus: str | Path, partition: str) -> EvaluationReport:
    """Transcribe a partition of a corpus with a trained model, every utterance of it.

    Args:
        weights: file that `train_model` wrote.
        corpus: folder with manifests.
        partition: 'train', 'validation' or 'test'.
    """
    recogniser, generator = _prepare(weights, corpus, partition)
    texts = predict_texts(recogniser.model, generator, partition)
    return EvaluationReport(generator.partitions[partition].utterances, texts)


def prediction_table(weights: str | Path, corpus: str | Path, partition: str, number: int = 6) -> str:
    """Return an HTML table of true and predicted texts, evenly spread over the lengths, with the errors marked."""
    recogniser, generator = _prepare(weights, corpus, partition)
    utterances = generator.partitions[partition].utterances
    by_length = sorted(range(len(utterances)), key=lambda index: utterances[index].duration)
    rows = []
    for place in np.linspace(0, len(by_length) - 1, min(number, len(by_length))).astype(int):
        text, feature = utterances[by_length[place]].text, generator.features(partition, by_length[place])
        predicted = greedy_decode(np.asarray(recogniser.model.predict_on_batch(feature[None]))[0])
        rate = 100 * sum(edit_counts(text, predicted)) / len(text)
        rows.append([html.escape(text), marked(text, predicted, "html"), f"{rate:.0f}"])
    return _html_table(f"{partition} set", ["true text", "predicted text", "CER %"], rows)


def _html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table of left-aligned cells, which are markup."""
    lines = [f"<th style='text-align:left'>{html.escape(name)}</th>" for name in head]
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><caption>{html.escape(caption)}</caption><tr>{''.join(lines)}</tr>{body}</table>"


# --------------------------------------------------------------------------------------- letters and words in time


def alignment_figure(weights: str | Path, corpus: str | Path, partition: str, index: int = 0) -> tuple[Figure, str]:
    """Draw the per-frame probabilities of one utterance under its spectrogram; return the figure and its alt text."""
    recogniser, generator = _prepare(weights, corpus, partition)
    feature = generator.features(partition, index)
    probabilities = np.asarray(recogniser.model.predict_on_batch(feature[None]))[0]
    predicted = greedy_decode(probabilities)
    figure = plot_alignment(
        feature, probabilities, class_labels(probabilities.shape[1]), generator.settings.step, f"predicted: {predicted}"
    )
    blank = float((probabilities.argmax(axis=1) == probabilities.shape[1] - 1).mean())
    text = generator.partitions[partition].utterances[index].text
    return figure, (
        f"Spectrogram of '{text}' above the probability of each character over time; the blank wins {100 * blank:.0f} % of the "
        f"frames, and the spikes between read '{predicted}'."
    )


def word_figure(weights: str | Path, corpus: str | Path, partition: str, index: int = 0) -> tuple[Figure, str]:
    """Draw when each word of one utterance was spoken over its spectrogram, beside the true times where the corpus has them.

    Returns:
        The figure and its alternative text.
    """
    recogniser, generator = _prepare(weights, corpus, partition)
    utterance, feature = generator.partitions[partition].utterances[index], generator.features(partition, index)
    probabilities = np.asarray(recogniser.model.predict_on_batch(feature[None]))[0]
    found = align(probabilities, utterance.text, recogniser.clock)
    words = [(span.text, span.start, span.end) for span in found.words]
    figure = plot_words(feature, words, utterance.extra.get("words"), generator.settings.step)
    times = ", ".join(f"{word} {start:.2f} to {end:.2f} s" for word, start, end in words)
    return figure, f"Spectrogram with the words where the alignment puts them: {times}."


def boundary_table(weights: str | Path, corpus: str | Path, partition: str) -> str:
    """Return how close aligned word boundaries are to the true ones as a Markdown table; without true times it counts none."""
    recogniser, generator = _prepare(weights, corpus, partition)
    probabilities = predict_probabilities(recogniser.model, generator, partition)
    errors = [
        boundary_errors(align(rows, utterance.text, recogniser.clock), utterance.extra["words"])
        for rows, utterance in zip(probabilities, generator.partitions[partition].utterances, strict=True)
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

    def scores(self, rows: Sequence[int] | None = None) -> tuple[Score, Score]:
        """Return the error rates, greedy and with the model, of all utterances or of chosen rows."""
        rows = range(len(self.utterances)) if rows is None else rows
        return _score(self.utterances, self.greedy, rows), _score(self.utterances, self.fused, rows)

    def markdown(self) -> str:
        """Return the error rates as a Markdown table, with the change of the WER, paired by utterance."""
        lines = []
        for label, rows in _parts(self.utterances).items():
            greedy, fused = self.scores(rows)
            chosen = [self.utterances[row] for row in rows]
            texts = ([texts[row] for row in rows] for texts in (self.greedy, self.fused))
            speakers = [one.speaker for one in chosen]
            change, low, high = paired_difference([one.text for one in chosen], *texts, speakers, "word")
            cells = [_rate(rate) for rate in (greedy.cer, fused.cer, greedy.wer, fused.wer)]
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
        for utterance, greedy, fused in zip(self.utterances, self.greedy, self.fused, strict=True):
            size = abs(_word_errors(utterance.text, greedy) - _word_errors(utterance.text, fused))
            if greedy != fused:
                texts = (marked(utterance.text, text, "html") for text in (greedy, fused))
                changes.append((size, [html.escape(utterance.text), *texts]))
        rows = [cells for _, cells in sorted(changes, key=lambda change: -change[0])[:number]]
        head = ["true text", "greedy", "with the language model"]
        return _html_table(f"The largest changes in the {self.partition} set", head, rows)


def _word_errors(reference: str, hypothesis: str) -> int:
    return sum(edit_counts(reference.split(), hypothesis.split()))


def compare_decoding(
    weights: str | Path, corpus: str | Path, partition: str, beam_width: int = 50, max_utterances: int = 60
) -> DecodingReport:
    """Decode a partition greedily and with a language model made from the corpus' own training sentences.

    Args:
        weights: file that `train_model` wrote.
        corpus: folder with manifests.
        partition: 'test' or 'validation'. Alpha and beta are chosen on the validation set, whose own speakers are each
            decoded with those that are best for the others.
        beam_width: texts that the search keeps.
        max_utterances: so many are decoded with each pair of weights to choose them.
    """
    model = train_ngram((utterance.text for utterance in read_manifest(Path(corpus) / MANIFESTS["train"])), ORDER)
    settings = BeamSettings(beam_width=beam_width)
    valid_rows, valid = _probabilities(weights, corpus, "validation")
    grid = (ALPHAS[::2], BETAS[::2])
    if partition == "validation":
        rows, utterances = valid_rows, valid
        fused, (alpha, beta), chosen = _leaving_speakers_out(rows, utterances, model, settings, grid)
    else:
        rows, utterances = _probabilities(weights, corpus, partition)
        step = max(1, len(valid) // max_utterances)
        references = [utterance.text for utterance in valid[::step]]
        alpha, beta = choose(valid_rows[::step], references, model, settings, *grid)
        fused, chosen = _decode(rows, model, settings, alpha, beta), "chosen on the validation set"
    greedy, num_words = [greedy_decode(frames) for frames in rows], len(model.words) - 3  # without begin, end, unknown
    return DecodingReport(partition, chosen, utterances, greedy, fused, alpha, beta, num_words)


def _leaving_speakers_out(rows: list[np.ndarray], utterances: list[Utterance], model, settings, grid):
    """Return texts, weights, and how those were chosen; the defaults where there are no two speakers to tell apart."""
    speakers = [utterance.speaker for utterance in utterances]
    if None in speakers or len(set(speakers)) < 2:
        texts = _decode(rows, model, settings, settings.alpha, settings.beta)
        return texts, (settings.alpha, settings.beta), "by default (there is no other speaker to choose them on)"
    tuned = tune(rows, [utterance.text for utterance in utterances], speakers, model, settings, *grid, progress=False)
    return tuned.texts, tuned.best, "on average, chosen for each speaker on the others"


def _decode(rows: list[np.ndarray], model: NGramModel, settings: BeamSettings, alpha: float, beta: float) -> list[str]:
    decoder = BeamDecoder(model, dataclasses.replace(settings, alpha=alpha, beta=beta))
    return [found[0].text for found in decoder.decode_batch(rows)]


def _prepare(weights: str | Path, corpus: str | Path, partition: str) -> tuple[Recogniser, BatchGenerator]:
    recogniser = load_recogniser(weights)
    manifest = Path(corpus) / MANIFESTS[partition]
    return recogniser, generator_for(recogniser.metadata, recogniser.settings.num_features, manifest, partition)


def _probabilities(weights: str | Path, corpus: str | Path, partition: str) -> tuple[list[np.ndarray], list[Utterance]]:
    recogniser, generator = _prepare(weights, corpus, partition)
    return predict_probabilities(recogniser.model, generator, partition), generator.partitions[partition].utterances
