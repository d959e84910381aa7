"""The picture of a run that is at work."""

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import DisplayHandle

from vuilab import figures
from vuilab.training.live_plot import LivePlot


@pytest.fixture
def shown(monkeypatch) -> list:
    """What reached the notebook: ('display' or 'update', alternative text), in order."""
    seen = []
    monkeypatch.setattr(InteractiveShell, "initialized", lambda: True)
    for name in ("display", "update"):
        monkeypatch.setattr(
            DisplayHandle,
            name,
            lambda self, picture, name=name, **options: seen.append((name, options["metadata"]["image/png"]["alt"])),
        )
    return seen


def test_every_epoch_replaces_the_one_picture(shown):
    plot = LivePlot()
    plot.on_train_begin()
    for epoch, loss in enumerate((90.0, 50.0, 40.0)):
        plot.on_epoch_end(epoch, {"loss": loss, "val_loss": loss + 1, "val_cer": 0.5, "val_wer": 0.9})
    assert [name for name, _ in shown] == ["display", "update", "update"]
    assert shown[-1][1].endswith("up to epoch 3; validation loss 41.0")


def test_the_curves_are_the_logs_and_begin_where_a_resumed_run_begins(shown):
    plot = LivePlot()
    plot.on_train_begin()
    plot.on_epoch_end(4, {"loss": 9.0, "val_loss": 10.0, "val_cer": 0.25, "val_wer": 0.5})
    plot.on_epoch_end(5, {"loss": 8.0, "val_loss": 11.0, "val_cer": 0.2, "val_wer": 0.4})
    left, right = plot.figure().axes
    lines = {line.get_label(): line.get_xydata().tolist() for ax in (left, right) for line in ax.lines}
    assert lines["training"] == [[5, 9], [6, 8]] and lines["validation"] == [[5, 10], [6, 11]]
    assert lines["CER"] == [[5, 25], [6, 20]] and lines["WER"] == [[5, 50], [6, 40]]


def test_a_second_run_gets_a_picture_of_its_own(shown):
    plot = LivePlot()
    for _ in range(2):
        plot.on_train_begin()
        plot.on_epoch_end(0, {"loss": 1.0})
    assert [name for name, _ in shown] == ["display", "display"]


def test_show_again_returns_the_handle_that_replaces_the_picture(shown):
    figure = figures.plot_raw_audio([0.0, 0.1])
    handle = figures.show_again(figure, "first", None)
    figures.show_again(figures.plot_raw_audio([0.0, 0.1]), "second", handle)
    assert shown == [("display", "first"), ("update", "second")]


def test_outside_a_notebook_nothing_is_shown(shown, monkeypatch):
    monkeypatch.setattr(InteractiveShell, "initialized", lambda: False)
    plot = LivePlot()
    plot.on_train_begin()
    plot.on_epoch_end(0, {"loss": 1.0})
    assert shown == []
