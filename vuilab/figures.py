"""How every figure of the project looks, and the plots of one utterance.

Curves differ by line style and marker as well as by colour, so that they can be told apart when printed in grey.
`show` puts a figure into the notebook as an image with an alternative text, which the HTML report keeps.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE

if TYPE_CHECKING:  # IPython is loaded only where something is shown
    from IPython.display import DisplayHandle

DOTS_PER_INCH = 90
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)), (0, (3, 3, 1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def use_style() -> None:
    """Set fonts, grid and a colour-blind-safe palette for all figures made from here on."""
    seaborn.set_theme(
        style="ticks",
        palette="colorblind",
        rc={"axes.grid": True, "grid.alpha": 0.3, "figure.dpi": DOTS_PER_INCH},
    )


def curve_style(index: int) -> dict:
    """Return colour, line style and marker of the curve with this number."""
    palette = seaborn.color_palette("colorblind")
    return {
        "color": palette[index % len(palette)],
        "linestyle": LINE_STYLES[index % len(LINE_STYLES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
    }


def show(figure: Figure, alt: str) -> None:
    """Display a figure in the notebook as a PNG, and close it; `alt` is a sentence or two for readers who cannot see it."""
    show_again(figure, alt, None)


def show_again(figure: Figure, alt: str, update: "DisplayHandle | None") -> "DisplayHandle":
    """Display a figure in the place of an earlier one; see `show`.

    Args:
        figure, alt: see `show`.
        update: what the call for the earlier figure returned, the handle of the picture; None for the first one.
    """
    from IPython.display import DisplayHandle, Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    plt.close(figure)
    small = io.BytesIO()  # 128 colours are enough for a figure and take a third of the room
    PIL.Image.open(buffer).convert("RGB").quantize(128, dither=PIL.Image.Dither.NONE).save(small, "PNG", optimize=True)
    handle = update or DisplayHandle()
    put = handle.update if update else handle.display
    put(Image(small.getvalue()), metadata={"image/png": {"alt": alt}})
    return handle


def plot_raw_audio(raw_audio: np.ndarray, sample_rate: int = SAMPLE_RATE, ax: Axes | None = None) -> Figure:
    """Plot a waveform (num_samples,) against time in seconds."""
    figure, ax = _axes(ax, (10, 2.4))
    seconds = np.arange(len(raw_audio)) / sample_rate
    ax.plot(seconds, raw_audio, linewidth=0.5, color="0.2")
    ax.set(xlabel="time (s)", ylabel="amplitude", title="Waveform", xlim=(0, seconds[-1] if len(seconds) else 1))
    return figure


def plot_spectrogram_feature(
    spectrogram: np.ndarray, step: float = 10, max_freq: float = 8000, ax: Axes | None = None
) -> Figure:
    """Plot a normalised spectrogram (num_frames, num_features): time to the right, frequency upwards.

    Args:
        spectrogram, ax: the feature matrix, and axes to draw on; a new figure when None.
        step, max_freq: milliseconds between frames, and frequency of the last bin in Hz.
    """
    figure, ax = _axes(ax, (10, 3))
    plot_image(spectrogram, len(spectrogram) * step / 1000, (0, max_freq / 1000), ax, "standard deviations")
    ax.set(xlabel="time (s)", ylabel="frequency (kHz)", title="Normalised log spectrogram")
    return figure


def plot_mfcc_feature(mfcc: np.ndarray, step: float = 10, ax: Axes | None = None) -> Figure:
    """Plot normalised MFCCs (num_frames, mfcc_dim) as an image, the lowest coefficient at the bottom."""
    figure, ax = _axes(ax, (10, 2.6))
    limit = np.percentile(np.abs(mfcc), 99)
    span = (-0.5, mfcc.shape[1] - 0.5)
    plot_image(mfcc, len(mfcc) * step / 1000, span, ax, "standard deviations", (-limit, limit), "RdGy")
    ax.set(xlabel="time (s)", ylabel="coefficient", title="Normalised MFCCs")
    return figure


def plot_image(
    values: np.ndarray,
    duration: float,
    span: tuple[float, float],
    ax: Axes,
    label: str = "",
    limits: tuple[float, float] | None = None,
    cmap: str = "magma",
) -> None:
    """Draw a matrix with time to the right and its first column at the bottom.

    Args:
        values: (num_frames, num_features).
        duration: of all frames, in seconds.
        span: values of the vertical axis at its lower and upper edge.
        ax: axes to draw on.
        label: of the colour bar, with its unit; no bar when empty.
        limits: values of the darkest and the brightest colour; None: percentiles 1 and 99.5.
        cmap: colour map.
    """
    low, high = np.percentile(values, [1, 99.5]) if limits is None else limits
    extent = (0, duration, *span)
    style = {"cmap": cmap, "vmin": low, "vmax": high, "interpolation": "nearest"}  # equal pixels make small files
    image = ax.imshow(values.T, origin="lower", aspect="auto", extent=extent, **style)
    ax.grid(visible=False)
    if label:
        ax.get_figure().colorbar(image, ax=ax, pad=0.01, label=label)


def plot_alignment(
    spectrogram: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
    step: float = 10,
    title: str = "",
) -> Figure:
    """Draw a spectrogram over the per-frame class probabilities of the same utterance.

    Args:
        spectrogram, step: (num_frames, num_features), and the milliseconds between its frames.
        probabilities, labels: (num_output_frames, num_classes), spread over the same duration, and one text per class.
        title: of the whole figure.
    """
    size = {"figsize": (10, 6.5), "height_ratios": (1, 1.6)}
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, layout="constrained", **size)
    duration = len(spectrogram) * step / 1000
    plot_image(spectrogram, duration, (0, 8), top)
    top.set(ylabel="frequency (kHz)", title=title)
    plot_image(probabilities, duration, (-0.5, len(labels) - 0.5), bottom, "probability", (0, 1), "Greys")
    bottom.set(xlabel="time (s)", ylabel="character", yticks=range(len(labels)), yticklabels=labels)
    bottom.invert_yaxis()  # the first class at the top
    bottom.tick_params(axis="y", labelsize=7)
    return figure


def plot_words(
    spectrogram: np.ndarray,
    words: Sequence[tuple[str, float, float]],
    true_words: Sequence[tuple[str, float, float]] | None = None,
    step: float = 10,
) -> Figure:
    """Draw words where they were found over a spectrogram, and below them where they truly are.

    Args:
        spectrogram, step: (num_frames, num_features), and the milliseconds between its frames.
        words, true_words: (text, start, end) in seconds; None: not known.
    """
    rows = [("found", words)] + ([("true", true_words)] if true_words else [])
    size = {"figsize": (10, 3 + 0.5 * len(rows)), "height_ratios": (2.4, 0.45 * len(rows))}
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, layout="constrained", **size)
    duration = len(spectrogram) * step / 1000
    plot_image(spectrogram, duration, (0, 8), top)
    top.set(ylabel="frequency (kHz)")
    for _, start, end in words:
        for moment in (start, end):
            top.axvline(moment, color="white", linewidth=0.8, linestyle=":")
    for place, (_, spans) in enumerate(rows):
        for number, (text, start, end) in enumerate(spans):
            shade = ("0.85", "0.95")[number % 2]
            bottom.barh(place, end - start, left=start, height=0.9, color=shade, edgecolor="0.3", linewidth=0.6)
            bottom.text((start + end) / 2, place, text, ha="center", va="center", fontsize=8, clip_on=True)
    bottom.set(xlabel="time (s)", yticks=range(len(rows)), yticklabels=[name for name, _ in rows], xlim=(0, duration))
    bottom.set_ylim(len(rows) - 0.5, -0.5)
    bottom.grid(visible=False)
    return figure


def _axes(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    if ax is not None:
        return ax.get_figure(), ax
    return plt.subplots(figsize=size, layout="constrained")
