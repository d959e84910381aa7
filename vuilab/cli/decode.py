"""What the commands around decoding do: transcribe, listen, align and lm; and which decoder the options ask for.

Each function takes the parsed options, prints, and returns the exit status. Heavy imports are inside, so that `--help` is quick.
"""

import argparse
import json
import sys
from pathlib import Path

JSON_VERSION = 1  # of what --json prints
HOT_WORD_BONUS = 8.0  # nats


def with_released_language_model(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options, completed by the released language model where neither a model nor a language model is named."""
    if options.model is not None or options.lm is not None or options.greedy:
        return options
    from vuilab.inference.transcribe import released_language_model

    found = released_language_model()
    if found is None:
        return options
    given = {name: value for name in ("alpha", "beta", "phonemes") if (value := getattr(options, name)) is not None}
    sounds = {**(found.sounds or {}), **given}
    return argparse.Namespace(**{**vars(options), "lm": found.path, **found.weights, **given, "sounds": sounds})


def language_model_of(options: argparse.Namespace):
    """Return the language model that --lm names, or None."""
    if options.lm is None:
        if getattr(options, "tune", False):
            raise ValueError("--tune chooses the weights of a language model: pass --lm FILE.")
        return None
    from vuilab.decoding.language_model import load_language_model

    return load_language_model(options.lm)


def beam_settings(options: argparse.Namespace):
    """Return the settings of the beam search that the options ask for."""
    from vuilab.decoding.settings import BeamSettings

    given = {"alpha": options.alpha, "beta": options.beta, "beam_width": options.beam_width}
    return BeamSettings(**{name: value for name, value in given.items() if value is not None})


def sound_weights(options: argparse.Namespace):
    """Return the weights of letters, phonemes and language model that the options ask for."""
    from vuilab.decoding.settings import SoundWeights

    given = {name: getattr(options, name) for name in ("phonemes", "alpha", "beta")}
    given |= getattr(options, "sounds", {})  # of the released weights
    return SoundWeights(**{name: value for name, value in given.items() if value is not None})


def transcribe(options: argparse.Namespace) -> int:
    """Print the text of audio files."""
    recogniser = _recogniser(options)
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


def _recogniser(options: argparse.Namespace):
    """Return the recogniser of the options, with a beam search where a language model or hot words are given."""
    from vuilab.inference.transcribe import load_recogniser

    if options.greedy and (options.lm is not None or options.hot_words):
        raise ValueError("--greedy decodes without --lm and --hot-words: leave one of them out.")
    options = with_released_language_model(options)
    language_model = language_model_of(options)
    recogniser = load_recogniser(options.model)
    if language_model is None and not options.hot_words:
        return recogniser
    from vuilab.decoding.beam import BeamDecoder
    from vuilab.decoding.sounds import SoundDecoder

    settings, hot_words = beam_settings(options), _hot_words(options)
    knows_words = language_model is not None and not language_model.of_characters
    if knows_words and options.phonemes != 0 and recogniser.knows_phonemes:
        return recogniser.with_decoder(SoundDecoder(language_model, sound_weights(options), settings, hot_words))
    return recogniser.with_decoder(BeamDecoder(language_model, settings, hot_words))


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

    from vuilab.decoding.subtitles import to_json, to_srt, to_textgrid, to_vtt

    if form == "textgrid":
        return to_textgrid(alignment, soundfile.info(path).duration)
    if form == "text":
        return "\n".join(
            f"{s.start:8.2f} {s.end:8.2f}  {s.text}  ({100 * s.confidence:.0f} %)" for s in alignment.words
        )
    return to_json(alignment) if form == "json" else {"srt": to_srt, "vtt": to_vtt}[form](alignment.words)


def listen(options: argparse.Namespace) -> int:
    """Print what is said into the microphone, or in a file that stands in for it."""
    chunks = live_chunks(options)
    from vuilab.inference.listen import listen

    recogniser = _recogniser(options)
    if options.source is None:
        print("Listening. Ctrl-C ends.", file=sys.stderr)
    if not listen(recogniser, chunks):
        print("No speech was heard.", file=sys.stderr)
    return 0


def live_chunks(options: argparse.Namespace):
    """Return the sound of the microphone, or of the file that stands in for it, in chunks that begin when they are asked for.

    What is missing is said now, before a backend is loaded.
    """
    if options.fast and options.source is None:
        raise ValueError("--fast goes with --from FILE: a microphone gives its sound in real time.")
    if options.source is not None and not options.source.is_file():
        raise FileNotFoundError(f"No audio file at {options.source}. Check the path.")
    from vuilab.inference.sources import check_microphone, file_chunks, first_seconds, microphone_chunks

    if options.source is not None:
        return first_seconds(file_chunks(options.source, real_time=not options.fast), options.seconds)
    device = int(options.device) if str(options.device).isdecimal() else options.device
    check_microphone(device)
    return first_seconds(microphone_chunks(device), options.seconds)


def align(options: argparse.Namespace) -> int:
    """Print when each word of a text was spoken."""
    from vuilab.corpus.books import normalize
    from vuilab.inference.transcribe import load_recogniser

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
    from vuilab.corpus.books import read_sentences
    from vuilab.decoding.language_model import save_language_model, train_ngram

    sentences = [sentence for path in options.texts for sentence in read_sentences(path)]
    model = train_ngram(
        sentences, options.order, options.prune, options.min_count, options.max_words, options.characters
    )
    save_language_model(model, options.out)
    counts = ", ".join(f"{number:,} {n}-grams" for n, number in enumerate(model.num_ngrams, start=1))
    print(f"{options.out}: {len(sentences):,} sentences, {counts} ({options.out.stat().st_size / 1e6:.1f} MB)")
    return 0


def lm_perplexity(options: argparse.Namespace) -> int:
    """Measure how well a language model predicts a text."""
    from vuilab.corpus.books import read_sentences
    from vuilab.decoding.language_model import load_language_model

    model = load_language_model(options.model)
    if options.text.suffix == ".json":
        from vuilab.corpus.manifest import read_manifest

        sentences = [utterance.text for utterance in read_manifest(options.text)]
    else:
        sentences = list(read_sentences(options.text))
    print(model.perplexity(sentences))
    share = model.overlap(sentences)
    if share:
        print(f"{100 * share:.1f} % of the sentences of six words or more stand in the model's own text.")
    return 0
