"""The cloud of clips: components as SVD gives them, planted outliers found, a page that turns and that no name can take over."""

import html.parser
import json
import re
import shutil
import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vuilab.exploration.cloud import pca_outliers, principal_components, robust_distances, turning_plot

NASTY = [
    "</script><script>document.title='taken'</script>",
    "' onmouseover='document.title=1",
    "<img src=x onerror=document.title='taken'>",
    'a|b & "c" \udc80',
]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def noise_clips(number: int, seed: int = 0) -> list[np.ndarray]:
    """Clips of white noise at levels that differ by a few decibels."""
    rng = np.random.default_rng(seed)
    return [
        (0.05 * 10 ** (rng.normal(0, 2) / 20) * rng.standard_normal(8000)).astype(np.float32) for _ in range(number)
    ]


def tone(frequency: float, num_samples: int = 8000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(num_samples) / 16_000)).astype(np.float32)


@pytest.fixture(scope="module")
def planted():
    """Forty clips of noise and, in second place among the words 'b', a pure tone."""
    clips = {"a": noise_clips(20), "b": noise_clips(20, 1)}
    clips["b"].insert(1, tone(1000))
    names = {word: [f"{word}/{number}.wav" for number in range(len(waves))] for word, waves in clips.items()}
    return pca_outliers(clips, names)


def test_components_are_those_of_the_covariance_matrix():
    rows = np.random.default_rng(0).normal(size=(12, 5)) * [5, 3, 2, 1, 0.5]
    points, explained, rest = principal_components(rows)
    values, vectors = np.linalg.eigh(np.cov(rows.T))  # another way there: eigenvectors, the largest last
    expected = (rows - rows.mean(axis=0)) @ vectors[:, ::-1][:, :3]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(explained, values[::-1][:3] / values.sum(), atol=1e-12)
    # what is left out is the length in the other two directions
    others = (rows - rows.mean(axis=0)) @ vectors[:, :2]
    np.testing.assert_allclose(rest, np.sqrt(np.square(others).sum(axis=1) / 5), atol=1e-9)
    assert (points[np.abs(points).argmax(axis=0), range(3)] > 0).all()


def test_distances_are_robust_and_hand_worked():
    points = np.array([[0.0], [1.0], [2.0], [3.0], [100.0]])
    # median 2, absolute deviations 2 1 0 1 98, their median 1, so that one unit is 1.4826
    np.testing.assert_allclose(robust_distances(points), np.array([2, 1, 0, 1, 98]) / 1.4826, rtol=1e-4)


def test_a_dimension_without_spread_counts_nothing_and_one_of_equal_points_still_shows_the_odd_one():
    points = np.array([[0.0, 7.0]] * 9 + [[5.0, 7.0]])
    distances = robust_distances(points)
    assert distances[:9].max() == 0
    assert distances[9] == pytest.approx(5 / points[:, 0].std())


def test_a_planted_tone_is_the_outlier(planted):
    figure, cloud = planted
    assert cloud.names[cloud.outliers[0]] == "b/1.wav"
    assert len(cloud.outliers) <= 2
    assert cloud.threshold == pytest.approx(4.0331, abs=1e-3)  # root of 16.266 in any table of chi-squared, 3 degrees
    assert cloud.facts()["the farthest"] == "b/1.wav"
    assert len(figure.axes) == 3 and [ax.get_xlabel()[:11] for ax in figure.axes] == [
        "component 1",
        "component 1",
        "component 2",
    ]
    assert cloud.markdown(3).splitlines()[2].startswith("| outlier 1 | b/1.wav |")
    assert len(cloud.markdown(3).splitlines()) == 5


def test_points_lie_where_their_words_are(planted):
    figure, cloud = planted
    drawn = figure.axes[1].lines[0]  # the first word, components 1 and 3
    np.testing.assert_allclose(drawn.get_xydata(), cloud.points[:20, [0, 2]])


def test_clips_that_are_alike_have_no_outliers():
    clips = {"a": [tone(500)] * 5}
    _, cloud = pca_outliers(clips)
    assert cloud.outliers == []
    assert cloud.names[2] == "a 2" and np.isfinite(cloud.distances).all()


def test_a_digitally_silent_clip_stands_out():
    clips = {"a": [*noise_clips(12), np.zeros(8000, np.float32)]}
    _, cloud = pca_outliers(clips)
    assert cloud.outliers[0] == 12 and cloud.levels[12] == pytest.approx(-140)


def test_too_few_clips_and_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="need at least 4 clips"):
        pca_outliers({"a": noise_clips(3)})
    with pytest.raises(ValueError, match=r"one name for every clip. Received: .* for \['a'\]"):
        pca_outliers({"a": noise_clips(4)}, {"a": ["only one"]})
    with pytest.raises(ValueError, match="no clips to look at"):
        pca_outliers({})


class Reader(html.parser.HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


@pytest.fixture
def nasty_cloud():
    clips = {"<b>word</b>": noise_clips(3), "other": [*noise_clips(8, 1), tone(3000)]}
    names = {"<b>word</b>": NASTY[:3], "other": [NASTY[3]] + [f"clip {number}" for number in range(7)] + [NASTY[0]]}
    return pca_outliers(clips, names)[1]


def test_names_of_files_stay_data(nasty_cloud):
    page = turning_plot(nasty_cloud)
    reader = Reader()
    reader.feed(page)
    assert [tag for tag, _ in reader.tags] == ["div", "p", "script"]
    attributes = reader.tags[0][1]
    assert set(attributes) == {"class", "data-cloud", "data-summary"}
    data = json.loads(attributes["data-cloud"])
    assert data["names"] == list(nasty_cloud.names) and data["labels"] == ["<b>word</b>", "other"]
    assert data["outliers"][0] == 11 and len(data["points"]) == 12
    page.encode("utf-8")  # can be written, whatever bytes the names hold
    assert "<b>" not in page and "<img" not in page and page.count("</script>") == 1
    assert "innerHTML" not in page and "http" not in page
    table = nasty_cloud.markdown(12)
    assert "<" not in table and "|b" not in table
    (table + str(nasty_cloud.facts())).encode("utf-8")


@pytest.mark.slow
def test_the_page_turns_in_a_browser_and_no_name_takes_it_over(nasty_cloud, tmp_path):
    """Keys, buttons and pointer in a real browser; what happened is written into the page and read back."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium")
    driver = """
      const canvas = document.querySelector("canvas"), said = () => document.querySelector("[role=status]").textContent, log = {};
      const key = (name) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
      const button = (text) => [...document.querySelectorAll("button")].find((each) => each.textContent === text);
      const picture = () => canvas.toDataURL();
      const pointer = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, { clientX: x, clientY: y, pointerId: 1 }));
      log.start = said();
      let before = picture(); key("ArrowLeft"); log.turned = picture() !== before;
      key("ArrowRight"); key("Home"); log.back = picture() === before;
      pointer("pointerdown", 300, 200); pointer("pointermove", 380, 240); pointer("pointerup", 380, 240);
      log.dragged = picture() !== before;
      key("n"); log.outlier = said();
      button("Reset").click(); log.reset = said();
      button("other").click(); log.pressed = button("other").getAttribute("aria-pressed");
      button("<b>word</b>").click(); key("n"); log.none = said(); button("<b>word</b>").click();
      const box = canvas.getBoundingClientRect();
      let found = "";
      for (let x = 0; x < box.width && !found; x += 6) for (let y = 0; y < box.height && !found; y += 6) {
        pointer("pointermove", box.left + x, box.top + y);
        if (said().includes("<b>word</b>")) found = said();
      }
      log.hover = found;
      log.scripts = document.scripts.length; log.images = document.images.length; log.title = document.title;
      document.body.dataset.log = JSON.stringify(log);
    """
    page = tmp_path / "page.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><title>own</title><body>{turning_plot(nasty_cloud)}<script>{driver}</script>",
        encoding="utf-8",
    )
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --window-size=1100,900 --dump-dom"
    rules = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [browser, *flags.split(), *rules, page.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, errors="replace")
    log = json.loads(html.unescape(re.search(r'data-log="([^"]*)"', result.stdout)[1]))
    assert log["start"].startswith("Drag or press") and log["reset"] == log["start"]
    assert log["turned"] and log["back"] and log["dragged"]
    assert log["outlier"] == f"{NASTY[0]} (other, outlier)"
    assert log["pressed"] == "false" and log["none"] == "There are no outliers among the words shown."
    assert any(log["hover"].startswith(name) for name in NASTY[:3])
    assert (log["scripts"], log["images"], log["title"]) == (2, 0, "own")
