"""Clips as points in three dimensions: principal components of their spectra, those that stand out, and a plot that turns.

The plot is a canvas with a short script, `cloud.js`, and needs nothing from elsewhere; three static views stand beside it.
"""

import html
import json
from collections.abc import Mapping, Sequence

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from vuilab.exploration.spectra import Numbers, check_clips, level, long_term_spectrum
from vuilab.figures import MARKERS, curve_style
from vuilab.files import asset
from vuilab.text import escape_markdown, markdown_rows

FALSE_ALARMS = 0.001  # share of clips that would count as outliers if each component were normally distributed


class PointCloud(Numbers):
    """Clips by the first three principal components of their spectra, and those that stand out; see `pca_outliers`."""

    def markdown(self, number: int = 10) -> str:
        """Return the farthest clips as a Markdown table, outliers marked; names are shown as they are and execute nothing."""
        rows = [
            (
                f"outlier {rank}" if self.distances[index] > self.threshold else "",
                escape_markdown(self.names[index]),
                f"{self.distances[index]:.1f}",
                f"{self.levels[index]:.0f}",
                f"{self.unexplained[index]:.1f}",
            )
            for rank, index in enumerate(np.argsort(-self.distances, kind="stable")[:number], 1)
        ]
        return markdown_rows(("", "clip", "distance", "level dB", "not in the picture dB"), rows, left=2)


def pca_outliers(
    clips: Mapping[str, Sequence[np.ndarray]], names: Mapping[str, Sequence[str]] | None = None
) -> tuple[Figure, PointCloud]:
    """Place clips by the principal components of their mean spectra in dB, and find those that stand far off.

    The spectra are centred and not scaled: they share a unit. Distances are measured per component from the median in units of
    1.4826 times the median absolute deviation, which outliers hardly move, and combined as for independent normal variables:
    the threshold is the root of the 0.999 quantile of chi-squared with three degrees of freedom, 4.03.

    Args:
        clips: word -> waveforms at 16 kHz.
        names: word -> a name for each clip, such as its file; None: "word 0", "word 1", ...

    Returns:
        The figure, and of each clip `words`, `names`, `points` (num_clips, 3) in dB (1 means that the 161 levels differ from the
        mean clip's by a root sum square of 1), `distances`, `levels` in dB relative to 1, and `unexplained`: dB, root mean
        square over frequencies of what the components leave out; `explained` (3,): share of the variance in each component,
        0..1; `threshold`, and `outliers`: numbers of the clips beyond it, the farthest first.

    Raises:
        ValueError: when there are fewer than four clips, a clip cannot be used, or names and clips do not match.
    """
    checked = check_clips(clips)
    words = tuple(word for word, waves in checked.items() for _ in waves)
    if len(words) < 4:
        raise ValueError(f"Three components need at least 4 clips. Received: {len(words)}.")
    if names is None:
        names = {word: [f"{word} {number}" for number in range(len(waves))] for word, waves in checked.items()}
    wrong = [word for word, waves in checked.items() if len(names.get(word, ())) != len(waves)]
    if wrong:
        raise ValueError(
            f"Expected one name for every clip. Received: other numbers of names than of clips for {wrong}. Make both from the "
            "same list."
        )
    # names of files may hold bytes that are no text
    printable = tuple(
        str(name).encode("utf-8", "backslashreplace").decode() for word in checked for name in names[word]
    )
    waves = [wave for word in checked for wave in checked[word]]
    points, explained, unexplained = principal_components(np.stack([long_term_spectrum(wave) for wave in waves]))
    distances, levels = robust_distances(points), np.array([level(wave) for wave in waves])
    threshold = float(np.sqrt(scipy.stats.chi2.ppf(1 - FALSE_ALARMS, 3)))
    outliers = [int(index) for index in np.argsort(-distances, kind="stable") if distances[index] > threshold]
    varied = np.ptp(levels) > 1e-6 and np.ptp(points[:, 0]) > 1e-6
    correlation = abs(float(np.corrcoef(points[:, 0], levels)[0, 1])) if varied else 0.0
    facts = {
        "clips": f"{len(points):,}",
        "variance in the three components": f"{100 * explained.sum():.0f} %",
        "correlation of the first one with the level": f"{correlation:.2f}",
        f"clips beyond {threshold:.1f} robust standard deviations": f"{len(outliers):,}",
        "as many of normally distributed points": f"{FALSE_ALARMS * len(points):.1f}",
        "the farthest": printable[int(distances.argmax())],
    }
    of_clips = {"words": words, "names": printable, "levels": levels, "unexplained": unexplained}
    measured = {"distances": distances, "threshold": threshold, "outliers": outliers}
    cloud = PointCloud(facts, points=points, explained=explained, **of_clips, **measured)
    return _draw_views(cloud), cloud


def principal_components(rows: np.ndarray, number: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project rows (num_rows, num_columns), more than `number`, on the directions in which they vary most.

    Returns:
        (points, explained, unexplained): (num_rows, number) coordinates, in each component the largest one positive; (number,)
        shares of the variance, 0 where there is none; (num_rows,) root mean square over columns of what is left out.
    """
    centred = rows - rows.mean(axis=0)
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    points = left[:, :number] * singular[:number]
    rest = np.sqrt(np.square(centred - points @ right[:number]).mean(axis=1))
    signs = np.sign(points[np.abs(points).argmax(axis=0), np.arange(number)])  # SVD leaves them open
    variance = np.square(singular)
    return points * np.where(signs == 0, 1, signs), variance[:number] / max(variance.sum(), 1e-12), rest


def robust_distances(points: np.ndarray) -> np.ndarray:
    """Distance of each point (num_points, num_dimensions) from the median, in robust standard deviations per dimension.

    A dimension in which more than half of the points agree exactly is measured by the standard deviation; one without any
    spread counts nothing.
    """
    offset = points - np.median(points, axis=0)
    scale = scipy.stats.median_abs_deviation(points, axis=0, scale="normal")
    scale = np.where(scale > 1e-6, scale, points.std(axis=0))
    return np.sqrt(np.square(np.where(scale > 1e-6, offset / np.maximum(scale, 1e-6), 0)).sum(axis=1))


def _draw_views(cloud: PointCloud) -> Figure:
    """Draw the cloud as seen along each axis, outliers ringed and numbered as in the table."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 4.6), layout="constrained")
    owner = np.array(cloud.words)
    for ax, (across, up) in zip(axes, ((0, 1), (0, 2), (1, 2)), strict=True):
        for number, word in enumerate(dict.fromkeys(cloud.words)):
            own, style = cloud.points[owner == word], curve_style(number) | {"linestyle": "none", "markersize": 3}
            ax.plot(own[:, across], own[:, up], alpha=0.6, label=word, **style)
        for rank, index in enumerate(cloud.outliers[:10], 1):
            place = cloud.points[index, [across, up]]
            ax.plot(*place, "o", markersize=10, markerfacecolor="none", markeredgecolor="black")
            ax.annotate(str(rank), place, xytext=(5, 5), textcoords="offset points")
        ax.margins(0.1)
        ax.set(xlabel=_axis_name(cloud, across), ylabel=_axis_name(cloud, up))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), markerscale=2)
    return figure


def _axis_name(cloud: PointCloud, axis: int) -> str:
    return f"component {axis + 1} (dB), {100 * cloud.explained[axis]:.0f} %"


def turning_plot(cloud: PointCloud) -> str:
    """Return the cloud as an HTML snippet that can be turned: drag it, or use the arrow keys.

    Names are data in an attribute and come onto the page as text only, so that no name of a file can be taken for markup. Where
    scripts may not run, a line says so.
    """
    labels = list(dict.fromkeys(cloud.words))
    styles = [curve_style(number) for number in range(len(labels))]
    data = {
        "points": np.round(cloud.points, 1).tolist(),
        "groups": [labels.index(word) for word in cloud.words],
        "labels": labels,
        "colors": [matplotlib.colors.to_hex(style["color"]) for style in styles],
        "shapes": [MARKERS.index(style["marker"]) for style in styles],
        "names": cloud.names,
        "outliers": cloud.outliers,
        "axes": [_axis_name(cloud, axis) for axis in range(3)],
    }
    text = html.escape(json.dumps(data, separators=(",", ":")))
    script = asset("exploration/point_cloud.js")
    summary = f"{len(cloud.names)} clips as points in three dimensions, {len(cloud.outliers)} outliers."
    return (
        f"<div class='point-cloud' data-cloud='{text}' data-summary='{html.escape(summary)}'>"
        "<p>This plot turns where scripts may run; the static views show the same points.</p></div>\n"
        f"<script>\n{script}</script>"
    )
