"""What the notebook says about trained models: texts, tables and pictures computed from weights and histories."""

import dataclasses
import html
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vuilab.corpus.manifest import MANIFESTS, Utterance
from vuilab.data.generator import BatchGenerator
from vuilab.decoding.greedy import class_labels, greedy_decode
from vuilab.figures import plot_alignment
from vuilab.inference.transcribe import Recogniser, load_recogniser
from vuilab.scoring.comparison import RunResult
from vuilab.scoring.error_rates import Score, confusions, edit_counts, marked, score
from vuilab.scoring.predictions import generator_for, predict_texts
from vuilab.text import percent_with_interval


def explain_model_0(probabilities: np.ndarray, ceiling: float) -> str:
    """Compare the highest probability that a trained model 0 gives with the ceiling that tanh sets.

    Args:
        probabilities: (..., num_output_frames, num_classes) of a trained model 0.
        ceiling: highest probability that logits in -1..1 can give.
    """
    peaks = np.asarray(probabilities).max(axis=-1)
    if peaks.max() > ceiling * 1.001:
        return (
            f"The highest probability in any frame is {peaks.max():.3f}, above the ceiling of {ceiling:.3f}: these are not the "
            "outputs of a layer that ends in tanh."
        )
    floor = -math.log(ceiling)
    return (
        f"Ceiling: **{ceiling:.3f}**. Highest probability that the trained model gives in any frame: **{peaks.max():.3f}**, on "
        f"average {peaks.mean():.3f}. Each path therefore loses at least {floor:.2f} nats per frame; over the {peaks.shape[-1]} "
        f"frames of this utterance that is {floor * peaks.shape[-1]:.0f} nats for a single path, however long training goes on."
    )


def explain_clipping(clipped: dict[str, list[float]], unclipped: dict[str, list[float]]) -> str:
    """Say what gradient clipping did to the same SimpleRNN model, from the two histories."""

    def outcome(history: dict[str, list[float]]) -> tuple[bool, str]:
        losses = history["loss"]
        bad = [epoch for epoch, loss in enumerate(losses, 1) if not math.isfinite(loss)]
        if bad:
            return False, f"its loss became undefined (NaN) in epoch {bad[0]}"
        return True, f"its loss stayed finite, {losses[-1]:.0f} nats per utterance after {len(losses)} epochs"

    with_ok, with_text = outcome(clipped)
    without_ok, without_text = outcome(unclipped)
    text = f"**With clipping** {with_text}. **Without clipping** {without_text}. "
    if with_ok and not without_ok:
        return text + "Here clipping alone makes the difference between a run that trains and one that is lost."
    if not with_ok:
        return text + "Clipping did not save this run; a smaller learning rate is the next thing to try."
    ratio = unclipped["loss"][-1] / clipped["loss"][-1]
    if ratio > 1.05:
        return text + (
            "This time no loss became NaN, since tanh bounds what a SimpleRNN puts out, but the unclipped run ends "
            f"{100 * (ratio - 1):.0f} % higher: its weights were thrown about by steps that clipping would have shortened."
        )
    return text + (
        "This time no loss became NaN and clipping made little difference: on these short utterances the gradients stayed small "
        "enough. Longer utterances or a larger learning rate change that."
    )


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


@dataclasses.dataclass(frozen=True)
class EvaluationReport:
    """The transcripts of one partition by one model, and what they show."""

    name: str
    partition: str
    utterances: list[Utterance]
    texts: list[str]
    score: Score
    unseen: Score | None  # of the sentences with a word that training never had
    known: Score | None  # of the others

    def markdown(self) -> str:
        """Return the error rates as a Markdown table."""
        rows = [
            ("all", self.score),
            ("with a word that training never had", self.unseen),
            ("known words only", self.known),
        ]
        lines = [
            f"**{self.name}** on the {self.partition} set ({len(self.score.by_speaker)} speakers):",
            "",
            "| sentences | number | CER % [95 % interval] | WER % [95 % interval] |",
            "|---|---:|---:|---:|",
        ]
        for label, result in rows:
            if result is not None:
                rates = [percent_with_interval(rate.rate, rate.low, rate.high) for rate in (result.cer, result.wer)]
                lines.append(f"| {label} | {result.num_utterances} | {rates[0]} | {rates[1]} |")
        cer = self.score.cer
        lines += [
            "",
            f"Character errors: {cer.substitutions} substitutions, {cer.deletions} deletions, {cer.insertions} insertions. "
            f"Intervals: {self.score.method}.",
        ]
        return "\n".join(lines)

    def confusions_markdown(self, number: int = 8) -> str:
        """Return the most frequent confusions of characters and words as a Markdown table."""
        references = [utterance.text for utterance in self.utterances]
        columns = [confusions(references, self.texts, unit).most_common(number) for unit in ("char", "word")]
        lines = ["| characters | times | words | times |", "|---|---:|---|---:|"]
        for row in range(max(map(len, columns))):
            cells = []
            for column in columns:
                pair, count = column[row] if row < len(column) else (("", ""), "")
                cells += [_arrow(*pair) if count else "", str(count)]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) if any(columns) else "There are no errors to confuse."

    def conclusion(self, runs: Sequence[RunResult]) -> str:
        """Return the closing paragraph, computed from this run."""
        others = [run for run in runs if run.name != self.name and np.isfinite(run.series("val_cer")).any()]
        text = (
            f"{self.name} reaches a CER of {100 * self.score.cer.rate:.1f} % and a WER of "
            f"{100 * self.score.wer.rate:.1f} % on the {self.partition} set, "
            f"on {len(self.score.by_speaker)} speakers that it was not trained on. "
        )
        if others:
            runner_up = min(others, key=lambda run: np.nanmin(run.series("val_cer")))
            own = next(run for run in runs if run.name == self.name)
            text += (
                f"On the validation set its lowest CER is {100 * np.nanmin(own.series('val_cer')):.1f} %, that of the next "
                f"best model, {runner_up.name}, {100 * np.nanmin(runner_up.series('val_cer')):.1f} %. "
            )
        if self.unseen is not None and self.known is not None:
            if self.unseen.cer.rate > self.known.cer.rate:
                text += (
                    f"Sentences with a word that training never had cost more: {100 * self.unseen.cer.rate:.1f} % against "
                    f"{100 * self.known.cer.rate:.1f} %. Part of what the model knows is vocabulary, not sound. "
                )
            else:
                text += "Words that training never had cost no more than known ones: the model spells what it hears. "
        return text + "These figures are greedy; the section on the language model has those with one."


def evaluate_partition(weights: str | Path, corpus: str | Path, partition: str) -> EvaluationReport:
    """Transcribe a partition of a corpus with a trained model, every utterance of it.

    Args:
        weights: file that `train_model` wrote.
        corpus: folder with manifests.
        partition: 'train', 'validation' or 'test'.
    """
    recogniser, generator = _prepare(weights, corpus, partition)
    utterances = generator.partitions[partition].utterances
    texts = predict_texts(recogniser.model, generator, partition)
    flags = np.array([bool(utterance.extra.get("unseen_words")) for utterance in utterances])

    def part(chosen: np.ndarray) -> Score | None:
        indices = np.flatnonzero(chosen)
        if not flags.any() or not len(indices):
            return None
        return _score([utterances[i] for i in indices], [texts[i] for i in indices])

    return EvaluationReport(
        Path(weights).name.split(".")[0],
        partition,
        utterances,
        texts,
        _score(utterances, texts),
        part(flags),
        part(~flags),
    )


def prediction_table(weights: str | Path, corpus: str | Path, partition: str, number: int = 6) -> str:
    """Return an HTML table of true and predicted texts, evenly spread over the lengths, with the errors marked."""
    recogniser, generator = _prepare(weights, corpus, partition)
    utterances = generator.partitions[partition].utterances
    by_length = sorted(range(len(utterances)), key=lambda index: utterances[index].duration)
    chosen = [by_length[i] for i in np.linspace(0, len(by_length) - 1, min(number, len(by_length))).astype(int)]
    rows = []
    for index in chosen:
        text = utterances[index].text
        feature = generator.features(partition, index)
        predicted = greedy_decode(np.asarray(recogniser.model.predict_on_batch(feature[None]))[0])
        rate = 100 * sum(edit_counts(text, predicted)) / len(text)
        cells = (html.escape(text), marked(text, predicted, "html"))
        rows.append(
            "<tr>" + "".join(f'<td style="text-align:left">{c}</td>' for c in cells) + f"<td>{rate:.0f}</td></tr>"
        )
    left = 'style="text-align:left"'
    head = f"<tr><th {left}>true text</th><th {left}>predicted text</th><th>CER %</th></tr>"
    return f"<table><caption>{partition} set</caption>{head}{''.join(rows)}</table>"


def alignment_figure(weights: str | Path, corpus: str | Path, partition: str, index: int = 0) -> tuple[Figure, str]:
    """Draw the per-frame probabilities of one utterance under its spectrogram; return the figure and its alt text."""
    recogniser, generator = _prepare(weights, corpus, partition)
    utterance = generator.partitions[partition].utterances[index]
    feature = generator.features(partition, index)
    probabilities = np.asarray(recogniser.model.predict_on_batch(feature[None]))[0]
    predicted = greedy_decode(probabilities)
    figure = plot_alignment(
        feature, probabilities, class_labels(probabilities.shape[1]), generator.settings.step, f"predicted: {predicted}"
    )
    share = float((probabilities.argmax(axis=1) == probabilities.shape[1] - 1).mean())
    alt = (
        f"Spectrogram of the sentence '{utterance.text}' above the probability of each character over time. The blank wins in "
        f"{100 * share:.0f} % of the frames; in between stand spikes that read '{predicted}'."
    )
    return figure, alt


def _prepare(weights: str | Path, corpus: str | Path, partition: str) -> tuple[Recogniser, BatchGenerator]:
    recogniser = load_recogniser(weights)
    manifest = Path(corpus) / MANIFESTS[partition]
    return recogniser, generator_for(recogniser.metadata, recogniser.settings.num_features, manifest, partition)


def _score(utterances: list[Utterance], texts: list[str]) -> Score:
    return score([u.text for u in utterances], texts, [u.speaker for u in utterances])


def _arrow(true: str, predicted: str) -> str:
    names = {"": "(nothing)", " ": "␣"}
    return f"{names.get(true, true)} → {names.get(predicted, predicted)}"
