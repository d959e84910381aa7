"""Notebooks become self-contained HTML: nothing from elsewhere, formulas without scripts, pictures with descriptions."""

import html.parser
import re
from pathlib import Path

import nbformat
import pytest

from vuilab.reports.notebook import recorded_seconds, run_notebook, set_formulas_aside, without_remote_scripts

FIGURE = """
import io, os
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
from IPython.display import Image, display
figure, ax = plt.subplots(figsize=(1, 1))
buffer = io.BytesIO()
figure.savefig(buffer, format="png")
plt.close(figure)
display(Image(buffer.getvalue()), metadata={"image/png": {"alt": 'Loss of "model 0" < model 1'}})
print("scale", os.environ["VUI_SCALE"])
"""
TEXT = """# A report of two cells

The loss is $\\frac{a}{b}$ nats, and

$$-\\ln \\sum_{\\pi} p(\\pi \\mid x)$$

while `$HOME` is code and ![a picture](picture.png) is a file.
"""
PROGRESS = """
import sys
print("epoch 1/2  loss 10.00")
print("a log line that no reader needs", file=sys.stderr)
"""
# the smallest picture there is: one pixel
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c626001000000ffff03000006000557bfabd40000000049454e44ae426082"
)


class _Page(html.parser.HTMLParser):
    """Collects what a page loads, its pictures and its formulas."""

    def __init__(self, text: str):
        super().__init__()
        self.loaded, self.descriptions, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        if tag == "img":
            self.descriptions.append(attrs.get("alt"))
        source = attrs.get("href") if tag == "link" else attrs.get("src") or attrs.get("data")
        if tag in ("script", "link", "img", "iframe", "audio", "video", "source", "object", "embed") and source:
            self.loaded.append((tag, source))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """(HTML, what the terminal showed, folder) of a notebook with three cells."""
    folder = tmp_path_factory.mktemp("report")
    cells = [
        nbformat.v4.new_markdown_cell(TEXT),
        nbformat.v4.new_code_cell(PROGRESS),
        nbformat.v4.new_code_cell(FIGURE),
    ]
    (folder / "picture.png").write_bytes(PIXEL)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "small.ipynb")
    before = (folder / "small.ipynb").read_bytes()
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        page = run_notebook(folder / "small.ipynb", folder / "out" / "small.html", {"VUI_SCALE": "tiny"})
    assert (folder / "small.ipynb").read_bytes() == before  # the notebook itself is not changed
    return page.read_text(encoding="utf-8"), out.getvalue(), folder


def test_page_loads_nothing_from_elsewhere(result):
    page = _Page(result[0])
    assert [item for item in page.loaded if not item[1].startswith("data:")] == []
    styles = re.findall(r"url\(\s*['\"]?([^)'\"]+)", result[0]) + re.findall(r"@import\s+['\"]?([^;'\"]+)", result[0])
    assert [item for item in styles if re.match(r"(https?:)?//", item)] == []
    assert "<title>A report of two cells</title>" in result[0]


def test_formulas_are_mathml_and_code_stays_code(result):
    page = _Page(result[0])
    assert page.tags.count("math") == 2 and page.tags.count("mfrac") == 1 and "munder" in page.tags
    assert 'display="block"' in result[0] and 'display="inline"' in result[0]
    assert "\\frac" not in result[0] and "formula-set-aside" not in result[0]
    assert "<code>$HOME</code>" in result[0]


def test_pictures_are_embedded_with_their_descriptions(result):
    page = _Page(result[0])
    assert sorted(page.descriptions) == ['Loss of "model 0" < model 1', "a picture"]


def test_output_is_kept_and_log_lines_of_the_error_stream_are_not(result):
    assert "epoch 1/2  loss 10.00" in result[0] and "scale tiny" in result[0]
    assert "<pre>a log line that no reader needs" not in result[0]
    executed = nbformat.read(result[2] / "out" / "small.ipynb", as_version=4)
    assert [cell.execution_count for cell in executed.cells if cell.cell_type == "code"] == [1, 2]
    assert sorted(path.name for path in (result[2] / "out").iterdir()) == ["small.html", "small.ipynb"]


def test_terminal_shows_cells_progress_time_left_and_where_the_report_is(result):
    printed = result[1]
    assert re.search(r"\[cell 1 of 2\] A report of two cells  \(\d:\d\d gone, about \d+:\d\d left\)", printed)
    assert "    epoch 1/2  loss 10.00\n" in printed and "[cell 2 of 2]" in printed
    assert re.search(r"Report: .*small\.html \(\d\.\d MB, \d:\d\d\)", printed)


def test_failing_cell_is_reported_and_what_ran_is_kept_for_inspection(tmp_path):
    cells = [
        nbformat.v4.new_code_cell(source)
        for source in ("print('before')", "raise ValueError('no data')", "print('after')")
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "failing.ipynb")
    with pytest.raises(
        RuntimeError, match=r"(?s)A cell of .*failing\.ipynb failed; .*\.failed\.ipynb.*ValueError.*: no data"
    ):
        run_notebook(tmp_path / "failing.ipynb", tmp_path / "out" / "failing.html")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failing.failed.ipynb"]
    kept = nbformat.read(tmp_path / "out" / "failing.failed.ipynb", as_version=4).cells
    assert kept[0].outputs[0].text == "before\n" and kept[1].outputs[0].ename == "ValueError" and not kept[2].outputs


def test_missing_notebook_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No notebook at .*none\.ipynb"):
        run_notebook(tmp_path / "none.ipynb", tmp_path / "none.html")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------- pieces


def test_scripts_and_styles_from_other_hosts_are_removed_and_embedded_ones_kept():
    remote = (
        '<script src="https://host/a.js"></script><script type="x" src="//host/b.js"> </script>'
        '<link rel="stylesheet" href="https://host/c.css"><script src=""></script>'
    )
    kept = '<script>let a = "https://host";</script><link rel="icon" href="data:,"><a href="https://host">text</a>'
    assert without_remote_scripts(remote + kept) == kept


def test_several_formulas_keep_their_places():
    formulas: list[str] = []
    text = set_formulas_aside(" ".join(f"${{x}}_{{{number}}}$" for number in range(12)), formulas)
    assert len(formulas) == 12 and len(set(text.split())) == 12
    assert all(f"<mn>{number}</mn>" in formula for number, formula in enumerate(formulas))


def test_recorded_cell_times_are_read_and_damaged_ones_replaced_by_a_guess():
    cell = nbformat.v4.new_code_cell("x")
    assert recorded_seconds(cell) == 3
    cell.metadata["execution"] = {
        "iopub.execute_input": "2024-01-01T10:00:00.500000Z",
        "shell.execute_reply": "2024-01-01T10:01:10.500000Z",
    }
    assert recorded_seconds(cell) == 70
    cell.metadata["execution"]["shell.execute_reply"] = "yesterday"
    assert recorded_seconds(cell) == 3


def test_page_collector_would_see_a_remote_picture():
    assert _Page('<img src="http://host/x.png">').loaded == [("img", "http://host/x.png")]
    assert Path(__file__).is_file()
