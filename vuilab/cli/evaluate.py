"""`vui evaluate`: error rates of a model on a manifest, greedy and with a language model, printed or recorded."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vuilab.cli.flags import JSON_VERSION, RECORD_HELP, add_fields, add_weights, from_arguments
from vuilab.decoding.settings import Decoding

if TYPE_CHECKING:
    from vuilab.corpus.manifest import Utterance
    from vuilab.decoding.greedy import Posteriors
    from vuilab.decoding.ngram import NGramModel
    from vuilab.scoring.confidence import ConfidenceQuality
    from vuilab.scoring.error_rates import Score

GREEDY, FUSED, SOUNDS = "greedy", "with language model", "phonemes"  # as records name them
MAX_OVERLAP = 0.1  # of the evaluated sentences that a language model may have seen


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    parser.add_argument("manifest", type=Path, help="utterances with their texts")
    add_weights(parser)
    parser.add_argument("--max-duration", type=float, metavar="SECONDS", help="leave out longer utterances")
    parser.add_argument("--allow-training-speakers", action="store_true", help="measure also who was trained on")
    decoding = parser.add_argument_group("decoding")
    add_fields(decoding, Decoding, skip=("hot_words",))
    decoding.add_argument("--tune", action="store_true", help="choose the weights, leaving one speaker out at a time")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print plain data")
    output.add_argument("--record", action="store_true", help=RECORD_HELP)
    parser.set_defaults(run=_evaluate)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a model makes of the utterances of a manifest."""

    utterances: "list[Utterance]"
    posteriors: "list[Posteriors]"

    @property
    def references(self) -> list[str]:
        """True texts."""
        return [utterance.text for utterance in self.utterances]

    @property
    def speakers(self) -> list[str | None]:
        """Who speaks each."""
        return [utterance.speaker for utterance in self.utterances]

    def wer_difference(self, first: list[str], second: list[str]) -> dict[str, float]:
        """Return how the WER changes from one set of texts to another, with its interval, as shares."""
        from vuilab.scoring.error_rates import paired_difference

        found = paired_difference(self.references, first, second, self.speakers, "word")
        return dict(zip(("difference", "low", "high"), found, strict=True))


def _evaluate(arguments: argparse.Namespace) -> int:
    from vuilab.corpus.manifest import read_manifest, summarize

    decoding, tune = from_arguments(Decoding, arguments), arguments.tune
    summarize(read_manifest(arguments.manifest))  # a missing or broken manifest is said before TensorFlow is loaded
    from vuilab.decoding.language_model import load_language_model
    from vuilab.inference.transcribe import load_recogniser, released_language_model, released_weights
    from vuilab.scoring.predictions import generator_for, predict_posteriors

    if arguments.model is None:
        decoding = decoding.with_tuned(released_language_model())
    if tune and decoding.lm is None:
        raise ValueError("--tune chooses the weights of a language model: pass --lm FILE.")
    language_model = None if decoding.lm is None else load_language_model(decoding.lm)
    recogniser = load_recogniser(arguments.model)
    width, limit = recogniser.settings.num_features, arguments.max_duration
    generator = generator_for(recogniser.metadata, width, arguments.manifest, "test", limit)
    utterances = generator.partitions["test"].utterances
    if not arguments.allow_training_speakers:
        _refuse_known_speakers(recogniser.metadata, utterances)
    if language_model is not None:
        _refuse_known_sentences(language_model, [utterance.text for utterance in utterances], decoding.lm)
    posteriors = predict_posteriors(recogniser.model, generator, "test", phonemes=decoding.phonemes != 0)
    measured = Measured(utterances, posteriors)
    texts, more = _read(measured, language_model, decoding, tune)
    scores, qualities = _judge(measured, texts)
    plain = {"version": JSON_VERSION, "manifest": str(arguments.manifest), "max_duration": limit}
    plain |= _plain(scores, qualities, more) | _each_utterance(arguments.manifest, measured, texts)
    if arguments.record:
        from vuilab.runs.record import add_to_record

        of_characters = language_model is not None and language_model.of_characters
        part = "character_evaluation" if of_characters else "evaluation"
        add_to_record(arguments.model or released_weights(), part, plain)
    if arguments.json:
        print(json.dumps(plain, indent=1))
    else:
        _print(measured, texts, scores, qualities, more)
    return 0


def _refuse_known_speakers(metadata: dict, utterances: "Sequence[Utterance]") -> None:
    learnt = set(metadata.get("train_speakers", [])) & {utterance.speaker for utterance in utterances}
    if learnt:
        raise ValueError(
            f"The model was trained on {len(learnt)} of these speakers ({', '.join(sorted(learnt)[:5])}...), so the error "
            "rate would flatter it. Choose other speakers, or pass --allow-training-speakers."
        )


def _refuse_known_sentences(model: "NGramModel", references: list[str], path: Path | None) -> None:
    """Refuse a language model whose text holds what it is measured on; warn where that cannot be known."""
    if not len(model.sentence_hashes):
        print(f"Warning: {path} does not say which sentences it was made from; they may hold these.", file=sys.stderr)
    share = model.overlap(references)
    if share >= MAX_OVERLAP:
        raise ValueError(
            f"{100 * share:.0f} % of the sentences of six words or more stand in the text of {path} verbatim, so the error "
            "rate would flatter it. Make a language model without them."
        )


# --------------------------------------------------------------------------------------------------- reading


def _read(
    measured: Measured, model: "NGramModel | None", decoding: Decoding, tune: bool
) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the texts of each way of reading, and the weights of the language model with what it changes."""
    from vuilab.decoding.greedy import greedy_decode

    texts = {GREEDY: [greedy_decode(letters) for letters, _ in measured.posteriors]}
    if model is None:
        return texts, {}
    texts[FUSED], more = _read_letters(measured, model, decoding, tune)
    more["wer_difference"] = measured.wer_difference(texts[GREEDY], texts[FUSED])
    if measured.posteriors[0].phonemes is not None and not model.of_characters:
        found, sounds = _read_sounds(measured, model, decoding, tune)
        more[SOUNDS] = {**sounds, "wer_difference": measured.wer_difference(texts[FUSED], found)}
        texts[f"{FUSED} and {SOUNDS}"] = found
    return texts, more


def _read_letters(
    measured: Measured, model: "NGramModel", decoding: Decoding, tune: bool
) -> tuple[list[str], dict[str, Any]]:
    """Return the texts that letters and a language model give, and the weights and how they came about."""
    from vuilab.decoding.beam import BeamDecoder
    from vuilab.runs.record import file_hash
    from vuilab.scoring import tuning

    letters, settings, path = [found.letters for found in measured.posteriors], decoding.beam, cast(Path, decoding.lm)
    about = {"file": path.name, "sha256": file_hash(path), "order": model.order, "beam_width": settings.beam_width}
    if not tune:
        texts = [found[0].text for found in BeamDecoder(model, settings).decode_batch(letters)]
        return texts, {**about, "weights": {"alpha": settings.alpha, "beta": settings.beta}, "chosen": "by hand"}
    tuned = tuning.tune(letters, measured.references, measured.speakers, model, settings)
    weights = {name: {"alpha": alpha, "beta": beta} for name, (alpha, beta) in tuned.weights.items()}
    return tuned.texts, {**about, **_chosen(weights, {"alpha": tuned.best[0], "beta": tuned.best[1]})}


def _read_sounds(
    measured: Measured, model: "NGramModel", decoding: Decoding, tune: bool
) -> tuple[list[str], dict[str, Any]]:
    """Return the texts that letters and phonemes give together, and the weights and how they came about."""
    from vuilab.decoding.sounds import SoundDecoder
    from vuilab.scoring import tuning

    weights = decoding.sounds
    candidates = SoundDecoder(model, weights, decoding.beam).candidates_of_all(measured.posteriors)
    if not tune:
        return [found.best(weights) for found in candidates], {"weights": vars(weights), "chosen": "by hand"}
    tuned = tuning.tune_sounds(candidates, measured.references, cast(list[str], measured.speakers))
    return tuned.texts, _chosen({name: vars(found) for name, found in tuned.weights.items()}, vars(tuned.best))


def _chosen(weights: dict[str, Any], best: dict[str, float]) -> dict[str, Any]:
    return {"weights": weights, "chosen": "leaving one speaker out", "for_other_recordings": best}


# --------------------------------------------------------------------------------------------------- scoring


def _judge(measured: Measured, texts: dict[str, list[str]]) -> "tuple[dict[str, Score], dict[str, ConfidenceQuality]]":
    from vuilab.scoring.confidence import confidence_quality
    from vuilab.scoring.error_rates import score

    references, letters = measured.references, [found.letters for found in measured.posteriors]
    scores = {name: score(references, found, measured.speakers) for name, found in texts.items()}
    return scores, {name: confidence_quality(letters, references, found) for name, found in texts.items()}


def _plain(scores: dict[str, Any], qualities: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return everything that was measured as plain data: for --json and for the record."""
    parts = {name: {**scores[name].as_dict(), "word_confidence": qualities[name].as_dict()} for name in scores}
    plain = parts.pop(GREEDY)
    if more:
        plain["language_model"] = {**more, **parts.pop(FUSED)}
    for part in parts.values():
        plain["language_model"][SOUNDS] |= part
    return plain


def _each_utterance(manifest: Path, measured: Measured, texts: dict[str, list[str]]) -> dict[str, Any]:
    """Return the errors of each utterance, for comparisons with other models, and the speakers' sex where it is known."""
    from vuilab.corpus.index import load_speaker_table
    from vuilab.scoring.error_rates import count_errors

    references, speakers, table = measured.references, measured.speakers, load_speaker_table(manifest.parent)
    return {
        "utterances": {
            "seconds": " ".join(f"{utterance.duration:.2f}" for utterance in measured.utterances),
            **{name: count_errors(references, found, speakers).as_dict() for name, found in texts.items()},
        },
        "sex": {speaker: table[speaker]["sex"] for speaker in sorted({*filter(None, speakers)} & set(table))},
    }


# -------------------------------------------------------------------------------------------------- printing


def _print(
    measured: Measured, texts: dict[str, list[str]], scores: dict[str, Any], qualities: dict[str, Any], more: dict
) -> None:
    for name, result in scores.items():
        _print_score(result, name if len(scores) > 1 else "")
        print(qualities[name])
    if more:
        _print_change("The language model changes", more)
    if SOUNDS in more:
        _print_change("Reading phonemes too changes", more[SOUNDS])
    for name, found in texts.items():
        _print_unseen(measured.utterances, found, name)


def _print_score(result: "Score", name: str) -> None:
    if name:
        print(f"-- {name}")
    print(f"{result.num_utterances} utterances, {len(result.by_speaker)} speakers, {result.num_empty} empty hypotheses")
    print(f"CER {result.cer}\nWER {result.wer}\n95 % intervals: {result.method}")
    for speaker, (cer, wer) in result.by_speaker.items():
        print(f"  speaker {speaker}: CER {100 * cer:.1f} %, WER {100 * wer:.1f} %")


def _print_change(what: str, how: dict[str, Any]) -> None:
    low, change, high = (f"{100 * how['wer_difference'][name]:+.1f}" for name in ("low", "difference", "high"))
    print(f"Weights: {how['weights']}\n{what} the WER by {change} points [{low}, {high}]")


def _print_unseen(utterances: "Sequence[Utterance]", texts: list[str], name: str) -> None:
    """Print the rates of sentences with and without words that training never had, where the manifest tells them."""
    from vuilab.scoring.error_rates import score

    unseen = [bool(utterance.extra.get("unseen_words")) for utterance in utterances]
    for flag, label in ((True, "with a word that training never had"), (False, "with known words only")):
        chosen = [index for index, value in enumerate(unseen) if value == flag]
        if any(unseen) and chosen:
            part = score([utterances[i].text for i in chosen], [texts[i] for i in chosen])
            rates = f"CER {100 * part.cer.rate:.1f} %, WER {100 * part.wer.rate:.1f} %"
            print(f"  {name}: {len(chosen)} sentences {label}: {rates}")
