"""What `vui.py evaluate` does: error rates of a model on a manifest, greedy and with a language model, printed or recorded."""

import argparse
import json
import sys
from pathlib import Path

from vuilab.cli.decode import (
    JSON_VERSION,
    beam_settings,
    language_model_of,
    sound_weights,
    with_released_language_model,
)

FUSED, SOUNDS = "with language model", "phonemes"  # as records name them
MAX_OVERLAP = 0.1  # of the evaluated sentences that a language model may have seen


def evaluate(options: argparse.Namespace) -> int:
    """Print error rates of a model on a manifest, greedy and, where one is given, with a language model."""
    from vuilab.corpus.manifest import read_manifest, summarize
    from vuilab.decoding.greedy import greedy_decode
    from vuilab.inference.transcribe import load_recogniser
    from vuilab.scoring.confidence import confidence_quality
    from vuilab.scoring.error_rates import score
    from vuilab.scoring.predictions import generator_for, predict_posteriors

    summarize(read_manifest(options.manifest))  # a missing or broken manifest is said before TensorFlow is loaded
    options = with_released_language_model(options)
    language_model = language_model_of(options)
    recogniser = load_recogniser(options.model)
    width, limit = recogniser.settings.num_features, options.max_duration
    generator = generator_for(recogniser.metadata, width, options.manifest, "test", limit)
    utterances = generator.partitions["test"].utterances
    _refuse_known_speakers(recogniser.metadata, utterances, options.allow_training_speakers)
    references, speakers = [u.text for u in utterances], [u.speaker for u in utterances]
    if language_model is not None:
        _refuse_known_sentences(language_model, references, options)
    posteriors = predict_posteriors(recogniser.model, generator, "test", phonemes=options.phonemes != 0)
    probabilities = [letters for letters, _ in posteriors]
    texts, more = {"greedy": [greedy_decode(rows) for rows in probabilities]}, {}
    if language_model is not None:
        texts[FUSED], more = _decode_with(language_model, probabilities, references, speakers, options)
        more["wer_difference"] = _difference(references, texts["greedy"], texts[FUSED], speakers)
        if posteriors[0].phonemes is not None and not language_model.of_characters:
            found, more[SOUNDS] = _decode_sounds(language_model, posteriors, references, speakers, options)
            more[SOUNDS]["wer_difference"] = _difference(references, texts[FUSED], found, speakers)
            texts[f"{FUSED} and {SOUNDS}"] = found
    results = {name: score(references, found, speakers) for name, found in texts.items()}
    qualities = {name: confidence_quality(probabilities, references, found) for name, found in texts.items()}
    plain = _plain(options, results, qualities, more)
    plain |= _each_utterance(options.manifest, utterances, texts)
    if options.record:
        from vuilab.inference.transcribe import released_weights
        from vuilab.runs.record import add_to_record

        of_characters = language_model is not None and language_model.of_characters
        part = "character_evaluation" if of_characters else "evaluation"
        add_to_record(options.model or released_weights(), part, plain)
    if options.json:
        print(json.dumps(plain, indent=1))
        return 0
    for name, result in results.items():
        _print_score(result, name if len(results) > 1 else "")
        print(qualities[name])
    if more:
        _print_change("The language model changes", more)
    if SOUNDS in more:
        _print_change("Reading phonemes too changes", more[SOUNDS])
    for name, found in texts.items():
        _print_unseen(utterances, found, name)
    return 0


def _plain(options: argparse.Namespace, results: dict, qualities: dict, more: dict) -> dict:
    """Return everything that was measured as plain data: for --json and for the record."""
    parts = {name: {**results[name].as_dict(), "word_confidence": qualities[name].as_dict()} for name in results}
    plain = {"version": JSON_VERSION, "manifest": str(options.manifest), "max_duration": options.max_duration}
    plain |= parts.pop("greedy")
    if more:
        plain["language_model"] = {**more, **parts.pop(FUSED)}
    for name in parts:
        plain["language_model"][SOUNDS] |= parts[name]
    return plain


def _each_utterance(manifest: Path, utterances: list, texts: dict[str, list[str]]) -> dict:
    """Return the errors of each utterance, for comparisons with other models, and the speakers' sex where it is known."""
    from vuilab.corpus.index import load_speaker_table
    from vuilab.scoring.error_rates import count_errors

    references, speakers = [u.text for u in utterances], [u.speaker for u in utterances]
    table = load_speaker_table(manifest.parent)
    return {
        "utterances": {
            "seconds": " ".join(f"{utterance.duration:.2f}" for utterance in utterances),
            **{name: count_errors(references, found, speakers).as_dict() for name, found in texts.items()},
        },
        "sex": {speaker: table[speaker]["sex"] for speaker in sorted({*filter(None, speakers)} & set(table))},
    }


def _print_score(result, name: str) -> None:
    if name:
        print(f"-- {name}")
    print(f"{result.num_utterances} utterances, {len(result.by_speaker)} speakers, {result.num_empty} empty hypotheses")
    print(f"CER {result.cer}\nWER {result.wer}\n95 % intervals: {result.method}")
    for speaker, (cer, wer) in result.by_speaker.items():
        print(f"  speaker {speaker}: CER {100 * cer:.1f} %, WER {100 * wer:.1f} %")


def _print_change(what: str, how: dict) -> None:
    low, change, high = (f"{100 * how['wer_difference'][name]:+.1f}" for name in ("low", "difference", "high"))
    print(f"Weights: {how['weights']}\n{what} the WER by {change} points [{low}, {high}]")


def _print_unseen(utterances: list, texts: list[str], name: str) -> None:
    """Print the rates of sentences with and without words that training never had, where the manifest tells them."""
    from vuilab.scoring.error_rates import score

    unseen = [bool(utterance.extra.get("unseen_words")) for utterance in utterances]
    for flag, label in ((True, "with a word that training never had"), (False, "with known words only")):
        chosen = [index for index, value in enumerate(unseen) if value == flag]
        if any(unseen) and chosen:
            part = score([utterances[i].text for i in chosen], [texts[i] for i in chosen])
            rates = f"CER {100 * part.cer.rate:.1f} %, WER {100 * part.wer.rate:.1f} %"
            print(f"  {name}: {len(chosen)} sentences {label}: {rates}")


def _refuse_known_speakers(metadata: dict, utterances: list, allowed: bool) -> None:
    learnt = set(metadata.get("train_speakers", [])) & {utterance.speaker for utterance in utterances}
    if learnt and not allowed:
        raise ValueError(
            f"The model was trained on {len(learnt)} of these speakers ({', '.join(sorted(learnt)[:5])}...), so the error "
            "rate would flatter it. Choose other speakers, or pass --allow-training-speakers."
        )


def _refuse_known_sentences(model, references: list[str], options: argparse.Namespace) -> None:
    """Refuse a language model whose text holds what it is measured on; warn where that cannot be known."""
    if not len(model.sentence_hashes):
        print(
            f"Warning: {options.lm} does not say which sentences it was made from; they may hold these.",
            file=sys.stderr,
        )
    share = model.overlap(references)
    if share >= MAX_OVERLAP:
        raise ValueError(
            f"{100 * share:.0f} % of the sentences of six words or more stand in the text of {options.lm} verbatim, so the error "
            "rate would flatter it. Make a language model without them."
        )


def _decode_with(model, probabilities: list, references: list[str], speakers: list, options: argparse.Namespace):
    """Decode with a language model; return the texts, and the weights and how they came about."""
    from vuilab.decoding.beam import BeamDecoder
    from vuilab.runs.record import file_hash
    from vuilab.scoring.tuning import tune

    settings = beam_settings(options)
    more = {
        "file": options.lm.name,
        "sha256": file_hash(options.lm),
        "order": model.order,
        "beam_width": settings.beam_width,
    }
    if options.tune:
        tuned = tune(probabilities, references, speakers, model, settings)
        chosen = {name: {"alpha": alpha, "beta": beta} for name, (alpha, beta) in tuned.weights.items()}
        best = {"alpha": tuned.best[0], "beta": tuned.best[1]}
        return tuned.texts, {
            **more,
            "weights": chosen,
            "chosen": "leaving one speaker out",
            "for_other_recordings": best,
        }
    decoder = BeamDecoder(model, settings)
    texts = [found[0].text for found in decoder.decode_batch(probabilities)]
    return texts, {**more, "weights": {"alpha": settings.alpha, "beta": settings.beta}, "chosen": "by hand"}


def _decode_sounds(model, posteriors: list, references: list[str], speakers: list, options: argparse.Namespace):
    """Decode by letters and phonemes; return as `_decode_with` does."""
    from vuilab.decoding.sounds import SoundDecoder
    from vuilab.scoring.tuning import tune_sounds

    weights = sound_weights(options)
    candidates = SoundDecoder(model, weights, beam_settings(options)).candidates_of_all(posteriors)
    if not options.tune:
        return [found.best(weights) for found in candidates], {"weights": vars(weights), "chosen": "by hand"}
    tuned = tune_sounds(candidates, references, speakers)
    chosen = {speaker: vars(weights) for speaker, weights in tuned.weights.items()}
    return tuned.texts, {
        "weights": chosen,
        "chosen": "leaving one speaker out",
        "for_other_recordings": vars(tuned.best),
    }


def _difference(references: list[str], first: list[str], second: list[str], speakers: list) -> dict:
    from vuilab.scoring.error_rates import paired_difference

    return dict(
        zip(("difference", "low", "high"), paired_difference(references, first, second, speakers, "word"), strict=True)
    )
