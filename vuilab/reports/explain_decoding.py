"""What the notebook says about decoding: what a language model changes, and how well words are placed in time."""

import dataclasses
import html
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vuilab.corpus.manifest import MANIFESTS, Utterance, read_manifest
from vuilab.decoding.alignment import align, boundary_errors
from vuilab.decoding.beam import BeamDecoder
from vuilab.decoding.greedy import greedy_decode
from vuilab.decoding.kneser_ney import train_ngram
from vuilab.decoding.ngram import NGramModel
from vuilab.decoding.settings import BeamSettings
from vuilab.figures import plot_words
from vuilab.inference.transcribe import Recogniser, load_recogniser
from vuilab.scoring.error_rates import Score, edit_counts, marked, paired_difference, score
from vuilab.scoring.predictions import generator_for, predict_probabilities
from vuilab.scoring.tuning import ALPHAS, BETAS, choose, tune
from vuilab.text import percent_with_interval

ORDER = 3  # of the model made from the training sentences


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

    def scores(self, chosen: np.ndarray | None = None) -> tuple[Score, Score]:
        """Return the error rates, greedy and with the model, of all utterances or of chosen ones (boolean mask)."""
        rows = range(len(self.utterances)) if chosen is None else np.flatnonzero(chosen)
        references = [self.utterances[row].text for row in rows]
        speakers = [self.utterances[row].speaker for row in rows]
        first, second = (
            score(references, [texts[row] for row in rows], speakers) for texts in (self.greedy, self.fused)
        )
        return first, second

    @property
    def unseen(self) -> np.ndarray:
        """Which utterances hold a word that the training sentences do not have, (num_utterances,), boolean."""
        return np.array([bool(utterance.extra.get("unseen_words")) for utterance in self.utterances])

    def markdown(self) -> str:
        """Return the error rates as a Markdown table."""
        parts = [("all", None)]
        if self.unseen.any() and not self.unseen.all():
            parts += [("with a word that training never had", self.unseen), ("known words only", ~self.unseen)]
        lines = [
            f"| sentences of the {self.partition} set | number | CER % greedy | CER % with LM | WER % greedy | WER % with LM |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for label, chosen in parts:
            greedy, fused = self.scores(chosen)
            rates = [greedy.cer, fused.cer, greedy.wer, fused.wer]
            cells = [percent_with_interval(rate.rate, rate.low, rate.high) for rate in rates]
            lines.append(f"| {label} | {greedy.num_utterances} | {' | '.join(cells)} |")
        lines += [
            "",
            f"Beam search with a word {ORDER}-gram of the training sentences ({self.num_words} words), alpha {self.alpha:g} and "
            f"beta {self.beta:g} {self.chosen}.",
        ]
        return "\n".join(lines)

    def reading(self) -> str:
        """Return what the table shows, computed from it."""
        references = [utterance.text for utterance in self.utterances]
        speakers = [utterance.speaker for utterance in self.utterances]
        change, low, high = paired_difference(references, self.greedy, self.fused, speakers, "word")
        interval = f"[{100 * low:+.1f}, {100 * high:+.1f}]"
        if low <= 0 <= high:
            text = f"The language model changes the WER by {100 * change:+.1f} points {interval}, which may be chance. "
        else:
            verb = "lowers" if change < 0 else "raises"
            text = f"The language model {verb} the WER by {100 * abs(change):.1f} points {interval}. "
        if self.unseen.any() and not self.unseen.all():
            known = _relative(*self.scores(~self.unseen))
            new = _relative(*self.scores(self.unseen))
            text += (
                f"In sentences of known words it changes the number of word errors by {known:+.0f} %, in those with a word that "
                f"it never saw by {new:+.0f} %: "
            )
            if known < new - 1:
                text += "it helps by knowing the words, and where it does not know one it can replace it by one that it knows."
            elif new < known - 1:
                text += "here it helps the new words' neighbours more than the sentences it knows."
            else:
                text += "known and new words gain alike."
        return text

    def examples(self, number: int = 6) -> str:
        """Return an HTML table of the utterances that the model changes most, with the errors marked."""
        changed = [row for row in range(len(self.utterances)) if self.greedy[row] != self.fused[row]]
        size = [
            abs(
                _errors(self.utterances[row].text, self.greedy[row])
                - _errors(self.utterances[row].text, self.fused[row])
            )
            for row in changed
        ]
        order = [changed[place] for place in np.argsort(-np.array(size, float), kind="stable")][:number]
        if not order:
            return "<p>The language model changes no utterance.</p>"
        left = 'style="text-align:left"'
        rows = "".join(
            f"<tr><td {left}>{html.escape(self.utterances[row].text)}</td>"
            + "".join(
                f"<td {left}>{marked(self.utterances[row].text, texts[row], 'html')}</td>"
                for texts in (self.greedy, self.fused)
            )
            + "</tr>"
            for row in order
        )
        head = "".join(f"<th {left}>{name}</th>" for name in ("true text", "greedy", "with the language model"))
        return f"<table><caption>The largest changes in the {self.partition} set</caption><tr>{head}</tr>{rows}</table>"


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
    recogniser = load_recogniser(weights)
    model = train_ngram((utterance.text for utterance in read_manifest(Path(corpus) / MANIFESTS["train"])), ORDER)
    settings = BeamSettings(beam_width=beam_width)
    valid_rows, valid = _probabilities(recogniser, corpus, "validation")
    grid = (ALPHAS[::2], BETAS[::2])
    if partition == "validation":
        rows, utterances = valid_rows, valid
        fused, (alpha, beta), chosen = _leaving_speakers_out(rows, utterances, model, settings, grid)
    else:
        rows, utterances = _probabilities(recogniser, corpus, partition)
        step = max(1, len(valid) // max_utterances)
        references = [utterance.text for utterance in valid[::step]]
        alpha, beta = choose(valid_rows[::step], references, model, settings, *grid)
        fused, chosen = _decode(rows, model, settings, alpha, beta), "chosen on the validation set"
    greedy = [greedy_decode(frames) for frames in rows]
    return DecodingReport(partition, chosen, utterances, greedy, fused, alpha, beta, _vocabulary(model))


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


def word_figure(weights: str | Path, corpus: str | Path, partition: str, index: int = 0) -> tuple[Figure, str]:
    """Draw when each word of one utterance was spoken over its spectrogram, beside the true times where the corpus has them.

    Returns:
        The figure and its alternative text.
    """
    recogniser = load_recogniser(weights)
    generator = _generator(recogniser, corpus, partition)
    utterance = generator.partitions[partition].utterances[index]
    feature = generator.features(partition, index)
    probabilities = np.asarray(recogniser.model.predict_on_batch(feature[None]))[0]
    found = align(probabilities, utterance.text, recogniser.clock)
    true = utterance.extra.get("words")
    words = [(span.text, span.start, span.end) for span in found.words]
    figure = plot_words(feature, words, true, generator.settings.step)
    times = ", ".join(f"{word} {start:.2f} to {end:.2f} s" for word, start, end in words)
    return figure, f"Spectrogram with the words where the alignment puts them: {times}."


def boundary_reading(weights: str | Path, corpus: str | Path, partition: str) -> str:
    """Say how close aligned word boundaries are to the true ones; where the corpus has no true times, say that.

    Returns:
        A sentence with the number of boundaries, the median and the 95th percentile of the error.
    """
    recogniser = load_recogniser(weights)
    probabilities, utterances = _probabilities(recogniser, corpus, partition)
    errors = [
        boundary_errors(align(rows, utterance.text, recogniser.clock), utterance.extra["words"])
        for rows, utterance in zip(probabilities, utterances, strict=True)
        if utterance.extra.get("words")
    ]
    if not errors:
        return "This corpus does not tell when its words were spoken, so the alignment cannot be checked."
    found = np.concatenate(errors)
    late = float(np.median(found))
    return (
        f"{len(found)} word boundaries of the {partition} set against the synthesiser's own times: the median error is "
        f"{1000 * np.median(np.abs(found)):.0f} ms, the 95th percentile {1000 * np.percentile(np.abs(found), 95):.0f} ms; "
        f"the typical boundary is {1000 * abs(late):.0f} ms {'late' if late >= 0 else 'early'}."
    )


def _generator(recogniser: Recogniser, corpus: str | Path, partition: str):
    manifest = Path(corpus) / MANIFESTS[partition]
    return generator_for(recogniser.metadata, recogniser.settings.num_features, manifest, partition)


def _probabilities(
    recogniser: Recogniser, corpus: str | Path, partition: str
) -> tuple[list[np.ndarray], list[Utterance]]:
    generator = _generator(recogniser, corpus, partition)
    return predict_probabilities(recogniser.model, generator, partition), generator.partitions[partition].utterances


def _vocabulary(model: NGramModel) -> int:
    return len(model.words) - 3  # without the marks of beginning, end and unknown


def _errors(reference: str, hypothesis: str) -> int:
    return sum(edit_counts(reference.split(), hypothesis.split()))


def _relative(greedy: Score, fused: Score) -> float:
    """Return the change of the word error rate in percent of itself."""
    return 100 * (fused.wer.rate / greedy.wer.rate - 1) if greedy.wer.rate else 0.0
