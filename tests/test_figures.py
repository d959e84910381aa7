"""Figures: the data drawn, axes with units, readable in grey, and an alternative text in the notebook."""

import io

import IPython.display
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest

from vuilab import figures
from vuilab.figures import (
    curve_style,
    plot_alignment,
    plot_image,
    plot_mfcc_feature,
    plot_raw_audio,
    plot_spectrogram_feature,
    show,
)


@pytest.fixture(autouse=True)
def closed_figures():
    with plt.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def matrix():
    return np.random.default_rng(0).normal(size=(300, 161))


def test_the_first_eight_curves_differ_without_colour():
    styles = [(str(curve_style(i)["linestyle"]), curve_style(i)["marker"]) for i in range(8)]
    assert len({line for line, _ in styles}) == len({marker for _, marker in styles}) == 8
    assert curve_style(100)["color"]


def test_a_waveform_is_drawn_against_seconds():
    figure = plot_raw_audio(np.sin(np.arange(32_000)))
    (ax,) = figure.axes
    seconds, amplitude = ax.lines[0].get_data()
    assert len(amplitude) == 32_000 and seconds[16_000] == pytest.approx(1.0)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "amplitude")


def test_an_empty_waveform_can_be_drawn():
    assert plot_raw_audio(np.zeros(0)).axes[0].get_xlim() == (0, 1)


def test_a_spectrogram_runs_to_the_right_and_upwards_in_seconds_and_kilohertz(matrix):
    ax, colourbar = plot_spectrogram_feature(matrix, step=20).axes
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), matrix.T)
    assert image.origin == "lower" and tuple(image.get_extent()) == (0, 6.0, 0, 8.0)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "frequency (kHz)")
    assert colourbar.get_ylabel() == "standard deviations"


def test_mfccs_are_an_image_with_the_lowest_coefficient_at_the_bottom(matrix):
    ax, _ = plot_mfcc_feature(matrix[:, :13]).axes
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), matrix[:, :13].T)
    assert image.origin == "lower" and tuple(image.get_extent()) == (0, 3.0, -0.5, 12.5)
    assert ax.get_ylabel() == "coefficient"
    low, high = image.get_clim()
    assert low == -high  # so that zero, the mean, has the middle colour


def test_an_image_has_its_span_its_limits_and_a_bar_only_with_a_label(matrix):
    figure, (first, second) = plt.subplots(2)
    plot_image(matrix, 3.0, (0, 8), first, "dB", (-2, 2))
    plot_image(matrix, 1.5, (-0.5, 160.5), second)
    (image,), (other,) = first.images, second.images
    np.testing.assert_array_equal(image.get_array(), matrix.T)
    assert image.origin == "lower" and tuple(image.get_extent()) == (0, 3.0, 0, 8) and image.get_clim() == (-2, 2)
    assert tuple(other.get_extent()) == (0, 1.5, -0.5, 160.5)
    np.testing.assert_allclose(other.get_clim(), np.percentile(matrix, [1, 99.5]))
    assert len(figure.axes) == 3 and figure.axes[2].get_ylabel() == "dB"


def test_plots_can_be_drawn_on_axes_that_are_given(matrix):
    figure, (first, second) = plt.subplots(2)
    assert plot_spectrogram_feature(matrix, ax=first) is figure
    assert plot_raw_audio(np.zeros(100), ax=second) is figure
    assert first.images and second.lines


def test_an_alignment_shares_the_time_axis_and_names_every_class(matrix):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(29), 150)
    labels = [str(number) for number in range(29)]
    top, bottom, _ = plot_alignment(matrix, probabilities, labels, title="an example").axes
    assert tuple(top.images[0].get_extent())[:2] == tuple(bottom.images[0].get_extent())[:2] == (0, 3.0)
    np.testing.assert_array_equal(bottom.images[0].get_array(), probabilities.T)
    assert [tick.get_text() for tick in bottom.get_yticklabels()] == labels
    assert top.get_title() == "an example" and bottom.get_xlabel() == "time (s)"


def test_show_displays_a_small_png_with_its_alternative_text_and_closes_the_figure(matrix, monkeypatch):
    shown = []
    monkeypatch.setattr(
        IPython.display.DisplayHandle, "display", lambda self, image, metadata: shown.append((image, metadata))
    )
    figures.use_style()
    figure = plot_spectrogram_feature(matrix)
    show(figure, alt="A spectrogram of noise.")
    ((image, metadata),) = shown
    assert metadata["image/png"]["alt"] == "A spectrogram of noise."
    picture = PIL.Image.open(io.BytesIO(image.data))
    assert picture.format == "PNG" and picture.width > 500
    assert figure.number not in plt.get_fignums()
