"""Figures of keyword classifiers show the numbers that they return; slopes of noise against known spectra."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.signal

from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.figures import (
    octave_levels,
    plot_accuracies,
    plot_changes,
    plot_keyword_histories,
    plot_mfcc_image,
    plot_noises,
)
from vuilab.keywords.scores import Proportion


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_accuracy_stands_over_the_parameters_with_its_interval():
    figure, numbers = plot_accuracies({"small": (1000, Proportion(90, 100)), "large": (50_000, Proportion(95, 100))})
    ax = figure.axes[0]
    points = [container.lines[0].get_xydata()[0] for container in ax.containers]
    np.testing.assert_allclose(points, [[1000, 90], [50_000, 95]])
    limits = ax.containers[0].lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose(limits, [82.56, 94.48], atol=0.01)  # Wilson's interval of 90 of 100, by hand
    assert ax.get_xscale() == "log" and list(numbers) == ["small", "large"]


def test_each_colour_of_noise_is_drawn_with_its_slope():
    figure, slopes = plot_noises(seed=3)
    assert slopes == pytest.approx({"white": 0, "pink": -3.01, "blue": 3.01, "brown": -6.02, "violet": 6.02}, abs=0.3)
    assert [line.get_label() for line in figure.axes[0].lines][1] == f"pink ({slopes['pink']:+.1f})"


def test_octave_levels_are_power_densities():
    samples = np.random.default_rng(0).normal(0, 1, 2**18)  # unit power over 8 kHz: -39 dB in every octave
    centres, levels = octave_levels(samples)
    np.testing.assert_allclose(levels, -10 * np.log10(8000), atol=0.3)
    assert centres[0] == pytest.approx(np.sqrt(125 * 250)) and len(centres) == 6
    high = scipy.signal.sosfilt(scipy.signal.butter(8, 2000, "high", fs=16_000, output="sos"), samples)
    assert np.diff(octave_levels(high)[1])[-3] > 10  # the octave above 1 kHz lies below the next


def test_an_mfcc_image_has_the_lowest_coefficient_at_the_bottom():
    image = np.random.default_rng(0).normal(size=(20, 11, 1))
    figure, values = plot_mfcc_image(image, "label 1: happy")
    shown = figure.axes[0].images[0]
    np.testing.assert_array_equal(shown.get_array(), image[..., 0])
    assert shown.origin == "lower" and figure.axes[0].get_title() == "label 1: happy" and values.shape == (20, 11)


@pytest.mark.parametrize("kind", ["logmel", "mfcc"])
def test_versions_of_a_clip_share_a_scale_and_keep_time_to_the_right(kind):
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    samples[:8000] = 0  # silence, then noise
    settings = KeywordFeatures(kind)
    figure, numbers = plot_changes({"clip": samples, "features": settings.extract(samples[None])[0]}, kind)
    np.testing.assert_array_equal(numbers["clip"], numbers["features"])
    assert numbers["clip"].shape[1] == 98
    if kind == "logmel":
        assert numbers["clip"][:, :40].max() < numbers["clip"][:, 60:].min()
    assert len({image.get_clim() for ax in figure.axes for image in ax.images}) == 1


def test_the_axis_of_epochs_fits_a_single_epoch():
    figure, numbers = plot_keyword_histories({"a": {"val_loss": [0.5], "val_accuracy": [0.7]}})
    assert figure.axes[0].get_xlim() == (0.5, 1.5) and [t for t in figure.axes[0].get_xticks() if 0.5 < t < 1.5] == [1]
    assert numbers["a"]["val_accuracy"] == [0.7]
