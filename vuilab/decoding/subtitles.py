"""Times on paper: subtitles (SRT, WebVTT), TextGrid for Praat, and JSON."""

import dataclasses
import json
import textwrap
from collections.abc import Sequence

from vuilab.decoding.alignment import Alignment, Span

JSON_VERSION = 1
LONGEST_LINE = 42  # characters of a subtitle line, as broadcasters recommend
LONGEST_CUE = 6.0  # seconds
LONGEST_PAUSE = 0.8  # seconds; a longer one begins a new cue


@dataclasses.dataclass(frozen=True)
class Cue:
    """A subtitle."""

    start: float  # seconds
    end: float
    lines: list[str]


def make_cues(words: Sequence[Span]) -> list[Cue]:
    """Join words into subtitles of at most two lines, broken at pauses."""
    cues: list[list[Span]] = []
    for word in words:
        if (
            not cues
            or word.start - cues[-1][-1].end > LONGEST_PAUSE
            or word.end - cues[-1][0].start > LONGEST_CUE
            or len(_wrap([*cues[-1], word])) > 2
        ):
            cues.append([])
        cues[-1].append(word)
    return [Cue(cue[0].start, cue[-1].end, _wrap(cue)) for cue in cues]


def _wrap(words: Sequence[Span]) -> list[str]:
    return textwrap.wrap(
        " ".join(word.text for word in words), LONGEST_LINE, break_long_words=False, break_on_hyphens=False
    )


def to_srt(words: Sequence[Span]) -> str:
    """Return subtitles in SubRip's format."""
    return "".join(f"{number}\n{_shown(cue, ',')}" for number, cue in enumerate(make_cues(words), start=1))


def to_vtt(words: Sequence[Span]) -> str:
    """Return subtitles in WebVTT (W3C)."""
    return "WEBVTT\n\n" + "".join(_shown(cue, ".") for cue in make_cues(words))


def _shown(cue: Cue, separator: str) -> str:
    lines = "\n".join(cue.lines)
    return f"{_clock(cue.start, separator)} --> {_clock(cue.end, separator)}\n{lines}\n\n"


def _clock(seconds: float, separator: str) -> str:
    """Return hours:minutes:seconds with milliseconds.

    Example:
        >>> _clock(3661.0456, ",")
        '01:01:01,046'
    """
    milliseconds = round(1000 * max(0.0, seconds))
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{separator}{rest % 1000:03d}"


def to_textgrid(alignment: Alignment, duration: float) -> str:
    """Return an alignment as a TextGrid of Praat with the tiers "words" and "characters".

    They reach to the end of the recording, `duration` in seconds, with empty intervals where nothing is spoken.
    """
    tiers = [("words", alignment.words), ("characters", alignment.characters)]
    head = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {duration:.4f}\ntiers? <exists>\n'
    parts = [head, f"size = {len(tiers)}\nitem []:\n"]
    for number, (name, spans) in enumerate(tiers, start=1):
        intervals = _without_gaps(spans, duration)
        parts.append(
            f'    item [{number}]:\n        class = "IntervalTier"\n        name = "{name}"\n        xmin = 0\n'
            f"        xmax = {duration:.4f}\n        intervals: size = {len(intervals)}\n"
        )
        for place, (start, end, text) in enumerate(intervals, start=1):
            parts.append(
                f"        intervals [{place}]:\n            xmin = {start:.4f}\n            xmax = {end:.4f}\n"
                f'            text = "{text.replace(chr(34), chr(34) * 2)}"\n'
            )
    return "".join(parts)


def _without_gaps(spans: Sequence[Span], duration: float) -> list[tuple[float, float, str]]:
    """Fill the time between spans with empty intervals, since a TextGrid has no gaps."""
    intervals, here = [], 0.0
    for span in spans:
        start, end = max(here, span.start), min(duration, span.end)
        if end - start < 1e-4:
            continue
        if start - here > 1e-4:
            intervals.append((here, start, ""))
            here = start
        intervals.append((here, end, span.text))
        here = end
    if duration - here > 1e-4:
        intervals.append((here, duration, ""))
    return intervals


def to_json(alignment: Alignment) -> str:
    """Return an alignment as JSON: words and characters with start, end (seconds) and confidence."""

    def plain(spans: Sequence[Span]) -> list[dict]:
        return [
            {"text": s.text, "start": round(s.start, 4), "end": round(s.end, 4), "confidence": round(s.confidence, 4)}
            for s in spans
        ]

    content = {"version": JSON_VERSION, "words": plain(alignment.words), "characters": plain(alignment.characters)}
    return json.dumps(content, indent=1)
