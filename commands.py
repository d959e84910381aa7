"""What the commands of `vui.py` do, one function each; `vui.py` has their options.

Each takes the parsed options and returns the exit status. Imports stand inside, so that `--help` and the commands that need
no deep learning load none.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

JSON_VERSION = 1  # of what --json prints
MAX_OVERLAP = 0.1  # of the evaluated sentences that a language model may have seen
HOT_WORD_BONUS = 8.0  # nats


def data_demo(options: argparse.Namespace) -> int:
    """Synthesise the demo corpus."""
    from synthesis import make_demo

    make_demo(options.out, seed=options.seed, scale=options.scale)
    return 0


def data_librispeech(options: argparse.Namespace) -> int:
    """Fetch, verify and index LibriSpeech subsets."""
    from downloads import fetch_librispeech

    for report in fetch_librispeech(options.subsets, options.root, options.base_url).values():
        print(report)
    return 0


def data_index(options: argparse.Namespace) -> int:
    """Write manifests for a tree in LibriSpeech's layout."""
    from indexing import index_tree

    print(index_tree(options.path, options.out, options.valid_speakers, options.test_speakers, options.test))
    return 0


def train(options: argparse.Namespace) -> int:
    """Train a model of the zoo, or a network of the study by its run name."""
    if options.corpus is not None:
        from corpora import set_active_corpus

        set_active_corpus(options.corpus)
    from utils import FeatureSettings

    build, notes = _look_up_model(options)
    import keras

    from augment import Augmentation
    from train_utils import configure_gpu, train_model

    print(configure_gpu(devices=options.devices))
    keras.config.set_dtype_policy(options.precision)
    keras.utils.set_random_seed(options.seed)
    settings = FeatureSettings(options.features, mfcc_dim=options.mfcc_dim)
    model = build(settings.num_features)
    name = options.name or options.model
    train_model(
        model,
        options.results / f"{name}.pickle",
        options.results / f"{name}.h5",
        minibatch_size=options.batch_size,
        optimizer=_optimizer(options),
        epochs=options.epochs,
        sort_by_duration=options.sort_by_duration,
        max_duration=options.max_duration,
        features=settings,
        schedule=options.schedule,
        warmup_epochs=options.warmup_epochs,
        augmentation=Augmentation(warp=0.0 if options.features == "mfcc" else 0.12) if options.augment else None,
        speeds=options.speeds,
        ema=options.ema,
        monitor=options.monitor,
        seed=options.seed,
        force=options.force,
        resume=options.resume,
        patience=options.patience,
        notes=notes,
    )
    print(f"Weights: {options.results / name}.h5   record: {options.results / name}.json")
    return 0


def _look_up_model(options: argparse.Namespace) -> tuple[Callable, dict | None]:
    """Return what builds the model from a number of features, and what its record says more.

    A run name of the study tells the features too, which then stand in the options.
    """
    from sample_models import ZOO

    if " " not in options.model:
        if options.model not in ZOO:
            raise ValueError(f"Unknown model {options.model!r}. Expected one of: {', '.join(ZOO)}")
        return ZOO[options.model], None
    from model_builder import RNNModel

    model, options.features = RNNModel.parse(options.model)
    if options.name is None:
        raise ValueError("A network of the study needs a --name for its files.")
    return model.build, {"full_name": options.model}


def _optimizer(options: argparse.Namespace):
    import keras

    if options.learning_rate is not None and options.learning_rate <= 0:
        raise ValueError(f"--learning-rate must be positive. Received: {options.learning_rate}")
    if options.optimizer == "adamw":
        return keras.optimizers.AdamW(options.learning_rate or 1e-3, weight_decay=1e-4)
    if options.learning_rate is None:
        return None
    return keras.optimizers.SGD(options.learning_rate, momentum=0.9, nesterov=True, clipnorm=5)


def evaluate(options: argparse.Namespace) -> int:
    """Print error rates of a model on a manifest, greedy and, where one is given, with a language model."""
    from corpora import read_manifest, summarize
    from decoding import greedy_decode
    from evaluation import generator_for, predict_probabilities, score
    from transcription import load_recogniser

    summarize(read_manifest(options.manifest))  # a missing or broken manifest is said before TensorFlow is loaded
    language_model = _language_model(options)
    recogniser = load_recogniser(options.model)
    width, limit = recogniser.settings.num_features, options.max_duration
    generator = generator_for(recogniser.metadata, width, options.manifest, "test", limit)
    utterances = generator.partitions["test"].utterances
    _refuse_known_speakers(recogniser.metadata, utterances, options.allow_training_speakers)
    references, speakers = [u.text for u in utterances], [u.speaker for u in utterances]
    if language_model is not None:
        _refuse_known_sentences(language_model, references, options)
    probabilities = predict_probabilities(recogniser.model, generator, "test")
    texts = [greedy_decode(rows) for rows in probabilities]
    results = {"greedy": score(references, texts, speakers)}
    more = {}
    if language_model is not None:
        fused, more = _decode_with(language_model, probabilities, references, speakers, options)
        results["with language model"] = score(references, fused, speakers)
        more["wer_difference"] = _difference(references, texts, fused, speakers)
    if options.json:
        plain = {"version": JSON_VERSION, "manifest": str(options.manifest), **results["greedy"].as_dict()}
        if more:
            plain["language_model"] = {**more, **results["with language model"].as_dict()}
        print(json.dumps(plain, indent=1))
        return 0
    for name, result in results.items():
        _print_score(result, name if len(results) > 1 else "")
    if more:
        change = more["wer_difference"]
        print(f"Weights: {more['weights']}")
        print(
            f"The language model changes the WER by {100 * change['difference']:+.1f} points "
            f"[{100 * change['low']:+.1f}, {100 * change['high']:+.1f}]"
        )
    _print_unseen(utterances, fused if more else texts)
    return 0


def _print_score(result, name: str) -> None:
    if name:
        print(f"-- {name}")
    print(f"{result.num_utterances} utterances, {len(result.by_speaker)} speakers, {result.num_empty} empty hypotheses")
    print(f"CER {result.cer}\nWER {result.wer}\n95 % intervals: {result.method}")
    for speaker, (cer, wer) in result.by_speaker.items():
        print(f"  speaker {speaker}: CER {100 * cer:.1f} %, WER {100 * wer:.1f} %")


def _print_unseen(utterances: list, texts: list[str]) -> None:
    """Print the rates of sentences with and without words that training never had, where the manifest tells them."""
    from evaluation import score

    unseen = [bool(utterance.extra.get("unseen_words")) for utterance in utterances]
    for flag, label in ((True, "with a word that training never had"), (False, "with known words only")):
        chosen = [index for index, value in enumerate(unseen) if value == flag]
        if any(unseen) and chosen:
            part = score([utterances[i].text for i in chosen], [texts[i] for i in chosen])
            rates = f"CER {100 * part.cer.rate:.1f} %, WER {100 * part.wer.rate:.1f} %"
            print(f"  {len(chosen)} sentences {label}: {rates}")


def _refuse_known_speakers(metadata: dict, utterances: list, allowed: bool) -> None:
    learnt = set(metadata.get("train_speakers", [])) & {utterance.speaker for utterance in utterances}
    if learnt and not allowed:
        raise ValueError(
            f"The model was trained on {len(learnt)} of these speakers ({', '.join(sorted(learnt)[:5])}...), so the error "
            "rate would flatter it. Choose other speakers, or pass --allow-training-speakers."
        )


def _language_model(options: argparse.Namespace):
    if options.lm is None:
        if getattr(options, "tune", False):
            raise ValueError("--tune chooses the weights of a language model: pass --lm FILE.")
        return None
    from language_model import load_model

    return load_model(options.lm)


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
    from beam_search import BeamDecoder
    from decoder_tuning import tune

    settings = _beam_settings(options)
    more = {"file": str(options.lm), "order": model.order, "beam_width": settings.beam_width}
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


def _beam_settings(options: argparse.Namespace):
    from beam_search import BeamSettings

    given = {"alpha": options.alpha, "beta": options.beta, "beam_width": options.beam_width}
    return BeamSettings(**{name: value for name, value in given.items() if value is not None})


def _difference(references: list[str], first: list[str], second: list[str], speakers: list) -> dict:
    from evaluation import paired_difference

    return dict(
        zip(("difference", "low", "high"), paired_difference(references, first, second, speakers, "word"), strict=True)
    )


def transcribe(options: argparse.Namespace) -> int:
    """Print the text of audio files."""
    from transcription import load_recogniser

    language_model = _language_model(options)
    recogniser = load_recogniser(options.model)
    if language_model is not None or options.hot_words:
        from beam_search import BeamDecoder

        recogniser = recogniser.with_decoder(BeamDecoder(language_model, _beam_settings(options), _hot_words(options)))
    results, skipped = [], []
    for path in options.files:
        try:
            result = _transcript(recogniser, path, options.format)
        except (ValueError, OSError) as error:
            skipped.append({"file": str(path), "reason": str(error)})
            continue
        results.append({"file": str(path), **result})
        if options.format != "json":
            named = options.format == "text" and len(options.files) > 1
            print(f"{path}: {result['text']}" if named else result["text"].rstrip("\n"), flush=True)
    if options.format == "json":
        print(json.dumps({"version": JSON_VERSION, "results": results, "skipped": skipped}, indent=1))
    for item in skipped:
        print(f"Skipped {item['file']}: {item['reason']}", file=sys.stderr)
    return 0 if results else 1


def _transcript(recogniser, path: Path, form: str) -> dict:
    """Return {"text": ...} in a format; for JSON with the words' times."""
    if form == "text":
        return {"text": recogniser.transcribe(path)}
    alignment = recogniser.transcribe_words(path)
    if form == "json":
        words = [vars(span) for span in alignment.words]
        return {"text": " ".join(span.text for span in alignment.words), "words": words}
    return {"text": _in_format(alignment, path, form)}


def _in_format(alignment, path: Path, form: str) -> str:
    import soundfile

    from subtitles import to_json, to_srt, to_textgrid, to_vtt

    if form == "textgrid":
        return to_textgrid(alignment, soundfile.info(path).duration)
    if form == "text":
        return "\n".join(
            f"{s.start:8.2f} {s.end:8.2f}  {s.text}  ({100 * s.confidence:.0f} %)" for s in alignment.words
        )
    return to_json(alignment) if form == "json" else {"srt": to_srt, "vtt": to_vtt}[form](alignment.words)


def align(options: argparse.Namespace) -> int:
    """Print when each word of a text was spoken."""
    from text_normalization import normalize
    from transcription import load_recogniser

    if not options.text.is_file():
        raise FileNotFoundError(
            f"No text at {options.text}. Expected a file that holds what is said in {options.audio}."
        )
    text = normalize(options.text.read_text(encoding="utf-8"))
    alignment = load_recogniser(options.model).align(options.audio, text)
    print(_in_format(alignment, options.audio, options.format).rstrip("\n"))
    return 0


def _hot_words(options: argparse.Namespace) -> dict[str, float]:
    return dict.fromkeys(options.hot_words, HOT_WORD_BONUS)


def lm_train(options: argparse.Namespace) -> int:
    """Make a language model from text files."""
    from language_model import save_model, train_ngram
    from text_normalization import read_sentences

    sentences = [sentence for path in options.texts for sentence in read_sentences(path)]
    model = train_ngram(sentences, options.order, options.prune, options.min_count, options.max_words)
    save_model(model, options.out)
    counts = ", ".join(f"{number:,} {n}-grams" for n, number in enumerate(model.num_ngrams, start=1))
    print(f"{options.out}: {len(sentences):,} sentences, {counts} ({options.out.stat().st_size / 1e6:.1f} MB)")
    return 0


def lm_perplexity(options: argparse.Namespace) -> int:
    """Measure how well a language model predicts a text."""
    from language_model import load_model
    from text_normalization import read_sentences

    model = load_model(options.model)
    if options.text.suffix == ".json":
        from corpora import read_manifest

        sentences = [utterance.text for utterance in read_manifest(options.text)]
    else:
        sentences = list(read_sentences(options.text))
    print(model.perplexity(sentences))
    share = model.overlap(sentences)
    if share:
        print(f"{100 * share:.1f} % of the sentences of six words or more stand in the model's own text.")
    return 0


def study(options: argparse.Namespace) -> int:
    """Train what questions of the study compare, and print what comes out."""
    from study_claims import conclusions
    from study_questions import QUESTIONS, question

    if not options.questions:
        for item in QUESTIONS:
            print(f"{item.key:18} {item.title}")
        return 0
    chosen = [question(key) for key in options.questions]
    if options.corpus is not None:
        from corpora import set_active_corpus

        set_active_corpus(options.corpus)
    from study import best_losses, train_settings

    more = {"folder": options.results, "minibatch_size": options.batch_size, "patience": options.patience}
    if options.parallel or options.address:
        from sweeps import sweep as train_settings

        more |= {"cpus_per_trial": options.cpus_per_trial, "gpus_per_trial": options.gpus_per_trial}
        more["address"] = options.address
    failures = []
    for item in chosen:
        print(f"== {item.title}")
        settings = item.at_scale(options.scale)
        if not settings:
            print(f"There is nothing to run at scale {options.scale!r}.")
            continue
        failures += train_settings(settings, options.epochs, options.seeds, **more)
        print("\n".join(conclusions(item, best_losses(settings, options.results))))
    for failure in failures:
        print(f"Failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def compare(options: argparse.Namespace) -> int:
    """Print the table of the runs, or keep the README's true."""
    from comparison import load_runs, plot_comparison, text_table
    from ledger import check_project, update_readme

    if options.check:
        problems = check_project()
        for problem in problems:
            print(problem, file=sys.stderr)
        print("README and records agree." if not problems else f"{len(problems)} disagreements.")
        return 1 if problems else 0
    if options.update:
        print("README updated." if update_readme() else "The README is up to date.")
        return 0
    print(text_table(load_runs(options.names or None, options.results)))
    if options.figure is not None:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        plot_comparison(options.names or None, folder=options.results).savefig(options.figure, dpi=110)
        print(f"Figure: {options.figure}")
    return 0


def report(options: argparse.Namespace) -> int:
    """Run a notebook and export HTML."""
    from report import run_notebook

    html = options.out or Path("results") / f"{options.notebook.stem}.html"
    run_notebook(options.notebook, html, {"VUI_SCALE": options.scale})
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a trained model in another format, checked against Keras."""
    from exporting import default_path, describe, export
    from model_formats import require
    from transcription import load_recogniser

    require(options.format)  # what is missing is said before anything is loaded
    path = options.out or default_path(options.weights, options.format)
    print(describe(path, export(load_recogniser(options.weights), path, options.format)))
    return 0
