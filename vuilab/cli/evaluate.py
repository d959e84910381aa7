"""`vui evaluate`: error rates of a model on a manifest, greedy and with a language model, printed or recorded."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from vuilab.alphabet import using
from vuilab.cli import flags
from vuilab.cli.flags import argument, fields, from_arguments
from vuilab.decoding.settings import Decoding

if TYPE_CHECKING:
    from vuilab.corpus.manifest import Utterance
    from vuilab.decoding.greedy import Posteriors
    from vuilab.decoding.ngram import NGramModel
    from vuilab.inference.transcribe import Recogniser
    from vuilab.scoring.error_rates import Score

GREEDY, FUSED, SOUNDS = "greedy", "with language model", "phonemes"  # as records name them
BOTH = f"{FUSED} and {SOUNDS}"
MAX_OVERLAP = 0.1  # of the evaluated sentences that a language model may have seen


class Measured(NamedTuple):
    """What a model makes of the utterances of a manifest, each a list in their order."""

    utterances: "list[Utterance]"
    references: list[str]  # true texts
    speakers: list[str | None]
    posteriors: "list[Posteriors]"
    letters: list  # of the posteriors


@argument("manifest", type=Path, help="utterances with their texts")
@flags.weights
@argument("--max-duration", type=float, metavar="SECONDS", help="leave out longer utterances")
@flags.training_speakers
@fields(Decoding, "decoding", skip=("hot_words",))
@argument("--tune", action="store_true", group="decoding", help="choose the weights, leaving one speaker out at a time")
@flags.json_flag
@flags.record_flag
def evaluate(arguments: argparse.Namespace) -> None:
    """Measure word and character error rates of a model on a manifest."""
    from vuilab.corpus.manifest import read_manifest
    from vuilab.decoding.language_model import load_language_model

    decoding = from_arguments(Decoding, arguments)
    for path, read in ((arguments.manifest, read_manifest), (decoding.lm, load_language_model)):
        if path is not None and not path.is_file():
            read(path)  # says so before TensorFlow is loaded
    from vuilab.inference.transcribe import load_recogniser, released_language_model

    if arguments.model is None:
        decoding = decoding.with_tuned(released_language_model())
    if arguments.tune and decoding.lm is None:
        raise ValueError("--tune chooses the weights of a language model: pass --lm FILE.")
    recogniser = load_recogniser(arguments.model)
    with using(recogniser.alphabet):
        _evaluate(arguments, decoding, recogniser)


def _evaluate(arguments: argparse.Namespace, decoding: Decoding, recogniser: "Recogniser") -> None:
    from vuilab.decoding.language_model import load_language_model
    from vuilab.inference.transcribe import released_weights
    from vuilab.scoring.predictions import generator_for, predict_posteriors

    language_model = None if decoding.lm is None else load_language_model(decoding.lm)
    width, limit = recogniser.settings.num_features, arguments.max_duration
    generator = generator_for(recogniser.metadata, width, arguments.manifest, "test", limit)
    utterances = generator.partitions["test"].utterances
    references, speakers = [item.text for item in utterances], [item.speaker for item in utterances]
    if not arguments.allow_training_speakers:
        flags.refuse_known_speakers(recogniser.metadata, speakers)
    if language_model is not None:
        _refuse_known_sentences(language_model, references, decoding.lm)
    posteriors = predict_posteriors(recogniser.model, generator, "test", phonemes=decoding.phonemes != 0)
    measured = Measured(utterances, references, speakers, posteriors, [found.letters for found in posteriors])
    texts, more = _read(measured, language_model, decoding, arguments.tune)
    plain = {"version": flags.JSON_VERSION, "manifest": str(arguments.manifest), "max_duration": limit}
    told = _judge(measured, texts, more, plain, arguments.manifest)
    if arguments.record:
        from vuilab.runs.record import add_to_record

        of_characters = language_model is not None and language_model.of_characters
        part = "character_evaluation" if of_characters else "evaluation"
        add_to_record(arguments.model or released_weights(), part, plain)
    print(json.dumps(plain, indent=1) if arguments.json else told)


def _refuse_known_sentences(model: "NGramModel", references: list[str], path: Path | None) -> None:
    """Refuse a language model whose text holds what it is measured on; warn where that cannot be known."""
    if not len(model.sentence_hashes):
        print(f"Warning: {path} does not say which sentences it was made from; they may hold these.", file=sys.stderr)
    share = model.overlap(references)
    if share >= MAX_OVERLAP:
        raise ValueError(
            f"{100 * share:.0f} % of the sentences, or of their runs of six words, stand in the text of {path} verbatim, so the "
            "error rate would flatter it. Make a language model without them."
        )


def _read(
    measured: Measured, model: "NGramModel | None", decoding: Decoding, tune: bool
) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the texts of each way of reading, and the weights of the language model and how they came about."""
    from vuilab.decoding.greedy import greedy_decode

    texts = {GREEDY: [greedy_decode(letters) for letters in measured.letters]}
    if model is None:
        return texts, {}
    texts[FUSED], more = _read_letters(measured, model, decoding, tune)
    if measured.posteriors[0].phonemes is not None and not model.of_characters:
        texts[BOTH], more[SOUNDS] = _read_sounds(measured, model, decoding, tune)
    return texts, more


def _read_letters(
    measured: Measured, model: "NGramModel", decoding: Decoding, tune: bool
) -> tuple[list[str], dict[str, Any]]:
    """Return the texts that letters and a language model give, and the weights and how they came about."""
    from vuilab.decoding.beam import BeamDecoder
    from vuilab.runs.record import file_hash
    from vuilab.scoring import tuning

    settings, path = decoding.beam, cast(Path, decoding.lm)
    about = {"file": path.name, "sha256": file_hash(path), "order": model.order, "beam_width": settings.beam_width}
    if not tune:
        texts = [found[0].text for found in BeamDecoder(model, settings).decode_batch(measured.letters)]
        return texts, {**about, "weights": {"alpha": settings.alpha, "beta": settings.beta}, "chosen": "by hand"}
    tuned = tuning.tune(measured.letters, measured.references, measured.speakers, model, settings)
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


def _judge(
    measured: Measured, texts: dict[str, list[str]], more: dict[str, Any], plain: dict[str, Any], manifest: Path
) -> str:
    """Put everything that is measured into plain data, for --json and for the record, and return it in words.

    That is rates and confidences of each way of reading; what the language model changes; the errors of each utterance, for
    comparisons with other models; and the speakers' sex where it is known.
    """
    from vuilab.corpus.index import load_speaker_table
    from vuilab.scoring.confidence import confidence_quality
    from vuilab.scoring.error_rates import count_errors, score

    references, speakers, lines = measured.references, measured.speakers, []
    counts = {name: count_errors(references, found, speakers) for name, found in texts.items()}
    for part, first, second in ((more, GREEDY, FUSED), (more.get(SOUNDS), FUSED, BOTH)):
        if part:
            change = counts[first].difference(counts[second], "word")
            part["wer_difference"] = dict(zip(("difference", "low", "high"), change, strict=True))
    for name, found in texts.items():
        result, quality = score(references, found, speakers), confidence_quality(measured.letters, references, found)
        lines += [f"-- {name}"] * (len(texts) > 1) + [_told(result), str(quality)]
        part = {GREEDY: plain, FUSED: more}.get(name) or more[SOUNDS]
        part |= {**result.as_dict(), "word_confidence": quality.as_dict()}
    if more:
        lines.append(_told_change("The language model changes", more))
        plain["language_model"] = more
    if SOUNDS in more:
        lines.append(_told_change("Reading phonemes too changes", more[SOUNDS]))
    seconds, table = (
        " ".join(f"{item.duration:.2f}" for item in measured.utterances),
        load_speaker_table(manifest.parent),
    )
    plain["utterances"] = {"seconds": seconds, **{name: found.as_dict() for name, found in counts.items()}}
    plain["sex"] = {speaker: table[speaker]["sex"] for speaker in sorted({*filter(None, speakers)} & set(table))}
    return "\n".join([*lines, *(line for name, found in texts.items() for line in _unseen(measured, found, name))])


def _told(result: "Score") -> str:
    rows = [
        f"{result.num_utterances} utterances, {len(result.by_speaker)} speakers, {result.num_empty} empty hypotheses",
        f"CER {result.cer}\nWER {result.wer}\n95 % intervals: {result.method}",
    ]
    for speaker, (cer, wer) in result.by_speaker.items():
        rows.append(f"  speaker {speaker}: CER {100 * cer:.1f} %, WER {100 * wer:.1f} %")
    return "\n".join(rows)


def _told_change(what: str, how: dict[str, Any]) -> str:
    low, change, high = (f"{100 * how['wer_difference'][name]:+.1f}" for name in ("low", "difference", "high"))
    return f"Weights: {how['weights']}\n{what} the WER by {change} points [{low}, {high}]"


def _unseen(measured: Measured, texts: list[str], name: str) -> list[str]:
    """Return the rates of sentences with and without words that training never had, where the manifest tells them."""
    from vuilab.scoring.error_rates import count_errors

    unseen, rows = [bool(item.extra.get("unseen_words")) for item in measured.utterances], []
    for flag, label in ((True, "with a word that training never had"), (False, "with known words only")):
        chosen = [index for index, value in enumerate(unseen) if value == flag]
        if any(unseen) and chosen:
            part = count_errors([measured.references[i] for i in chosen], [texts[i] for i in chosen])
            rates = f"CER {100 * part.pooled():.1f} %, WER {100 * part.pooled('word'):.1f} %"
            rows.append(f"  {name}: {len(chosen)} sentences {label}: {rates}")
    return rows
