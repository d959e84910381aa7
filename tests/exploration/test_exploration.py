"""Every view of the exploration by one name: a figure, its numbers, facts for a table, and no deep-learning backend."""

import inspect
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from vuilab import exploration
from vuilab.files import repository

ROOT = repository()


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def clip(seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(16_000)).astype(np.float32)


CLIPS = {"bed": [clip(0), clip(1)], "cat": [clip(2), clip(3)[:9000]]}
VIEWS = {
    "class_counts": (CLIPS,),
    "durations": (CLIPS,),
    "fft_magnitude": (clip(0),),
    "log_spectrogram": (clip(0),),
    "marked_spectrogram": (clip(0), ["b", "e", "d"]),
    "mean_spectra": (CLIPS,),
    "mel_spectrogram": (clip(0),),
    "mfcc_deltas": (clip(0),),
    "pca_outliers": (CLIPS,),
    "resampling": (clip(0),),
    "silence_removal": (clip(0),),
    "speaker_distances": (CLIPS,),
    "two_recordings": (clip(0), clip(1)),
    "violin_frequency": (CLIPS,),
}


def test_every_name_is_tried_here():
    assert set(exploration.__all__) == {*VIEWS, "turning_plot"}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_returns_a_figure_and_numbers_that_can_be_read(name):
    view = getattr(exploration, name)
    before = [np.array(part, copy=True) for part in VIEWS[name] if isinstance(part, np.ndarray)]
    figure, numbers = view(*VIEWS[name])
    assert isinstance(figure, Figure)
    for ax in figure.axes:
        if ax.has_data() and ax.axison and ax.get_label() != "<colorbar>":
            assert ax.get_xlabel() or ax.get_shared_x_axes().get_siblings(ax) != [ax], "an axis without a name"
    facts = numbers.facts()
    assert facts and all(value and "nan" not in value for value in facts.values())
    for part, copy in zip([part for part in VIEWS[name] if isinstance(part, np.ndarray)], before, strict=True):
        np.testing.assert_array_equal(part, copy)  # what is looked at stays as it is
    assert "Raises:" in inspect.getdoc(view)


def test_the_turning_plot_comes_from_the_numbers_of_the_cloud():
    _, cloud = exploration.pca_outliers(CLIPS)
    assert exploration.turning_plot(cloud).startswith("<div class='point-cloud'")


def test_exploring_loads_no_deep_learning_backend():
    heavy = {"keras", "tensorflow", "jax", "torch", "webrtcvad"}
    code = f"import sys, vuilab.exploration; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
