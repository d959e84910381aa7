"""Running a notebook from the top and exporting it as one self-contained HTML file.

The report shows the same without a network: figures and players are embedded, formulas become MathML, and scripts that
nbconvert would load from elsewhere are left out. While the notebook runs, the terminal shows which cell is at work, what
it prints, and how much time is left, estimated from the cell times that the notebook recorded in an earlier run.
"""

import os
import re
import time
from datetime import datetime
from html import escape
from pathlib import Path

import latex2mathml.converter
import nbformat
import zmq
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from traitlets.config import Config

from vuilab.files import atomic_path

DEFAULT_CELL_SECONDS = 3.0  # of a cell whose time is not known
# On Linux training is about a quarter faster with huge pages; elsewhere the variable has no effect.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
# Other users of a machine can listen to its loopback; ipykernel warns of that where nothing is encrypted.
ENCRYPTED = Config({"KernelManager": {"transport_encryption": "auto" if zmq.has("curve") else "disabled"}})
FORMULA = re.compile(r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$", re.DOTALL)
CODE_STYLE = (
    "<style>.highlight pre { font-family: var(--jp-code-font-family, monospace) }</style>"  # that a cell puts out
)
ELSEWHERE = re.compile(  # scripts and styles of other hosts, and the loader of diagrams that would fetch some
    r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->"
    r'|<script[^>]*\ssrc="((https?:)?//[^"]*)?"[^>]*>\s*</script>|<link[^>]*\shref="(https?:)?//[^"]*"[^>]*>'
    r'|<script type="module">(?:(?!</script>).)*mermaid(?:(?!</script>).)*</script>',
    re.DOTALL,
)


class TalkingClient(NotebookClient):
    """A notebook client that says on the terminal what happens."""

    def __init__(self, notebook: nbformat.NotebookNode, **options):
        super().__init__(notebook, **options)
        self.started = time.perf_counter()
        self.expected = [recorded_seconds(cell) for cell in notebook.cells if cell.cell_type == "code"]
        self.number = 0
        self.heading = ""

    async def async_execute_cell(self, cell, cell_index, **options):
        """Announce a code cell, then run it."""
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
            self.heading = headings[-1] if headings else self.heading
        elif cell.source.strip():
            self.announce()
        return await super().async_execute_cell(cell, cell_index, **options)

    def announce(self) -> None:
        """Print cell number, heading and time left."""
        elapsed = time.perf_counter() - self.started
        done, left = sum(self.expected[: self.number]), sum(self.expected[self.number :])
        pace = elapsed / done if done > 5 else 1.0
        self.number += 1
        where = f"[cell {self.number} of {len(self.expected)}] {self.heading}"
        print(f"{where}  ({_clock(elapsed)} gone, about {_clock(pace * left)} left)", flush=True)

    def process_message(self, msg, cell, cell_index):
        """Copy what a cell prints to the terminal."""
        if msg["msg_type"] == "stream" and msg["content"]["name"] == "stdout":
            text = msg["content"]["text"]
            print("    " + text.rstrip("\n").replace("\n", "\n    "), flush=True)
        return super().process_message(msg, cell, cell_index)


def recorded_seconds(cell: nbformat.NotebookNode) -> float:
    """Return how long a cell took when the notebook was last run, from its metadata."""
    times = cell.metadata.get("execution", {})
    names = ("iopub.execute_input", "shell.execute_reply")
    try:
        begin, end = (datetime.fromisoformat(times[name].replace("Z", "+00:00")) for name in names)
    except (KeyError, ValueError):
        return DEFAULT_CELL_SECONDS
    return max((end - begin).total_seconds(), 0.05)


def run_notebook(
    path: str | Path, html: str | Path, environment: dict[str, str] | None = None, folder: str | Path | None = None
) -> Path:
    """Run a notebook from the top and write the HTML report and the executed notebook beside it.

    Args:
        path: the notebook; it is not changed.
        html: the report to write; the executed notebook gets the suffix `.ipynb`.
        environment: extra environment variables for its kernel.
        folder: where its cells read and write; None: beside the notebook.

    Returns:
        The report's path.

    Raises:
        FileNotFoundError: when there is no such notebook.
        RuntimeError: when a cell fails; what ran until then is kept beside the report for inspection.
    """
    path, html = Path(path), Path(html)
    if not path.is_file():
        raise FileNotFoundError(f"No notebook at {path}.")
    notebook = nbformat.read(path, as_version=4)
    client = TalkingClient(notebook, timeout=None, kernel_name="python3", record_timing=True, config=ENCRYPTED)
    home = path.resolve().parent
    client.resources = {"metadata": {"path": str(folder or home)}}
    modules = os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))
    try:
        client.execute(env={**HUGE_PAGES, **os.environ, "PYTHONPATH": modules, **(environment or {})})
    except CellExecutionError as error:
        failed = html.with_suffix(".failed.ipynb")
        with atomic_path(failed) as partial:
            nbformat.write(notebook, partial)
        raise RuntimeError(f"A cell of {path} failed; the notebook up to there is {failed}.\n{error}") from error
    clean_outputs(notebook)
    with atomic_path(html.with_suffix(".ipynb")) as partial:
        nbformat.write(notebook, partial)
    export_html(notebook, html, home)
    seconds = time.perf_counter() - client.started
    print(f"Report: {html} ({html.stat().st_size / 1e6:.1f} MB, {_clock(seconds)})", flush=True)
    return html


def clean_outputs(notebook: nbformat.NotebookNode) -> None:
    """Drop what no reader needs: the error stream with its log lines and progress bars, and widgets but for their text."""
    notebook.metadata.pop("widgets", None)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


def export_html(notebook: nbformat.NotebookNode, html: str | Path, folder: str | Path = ".") -> None:
    """Write an executed notebook as one HTML file that loads nothing from elsewhere; its text names pictures in `folder`."""
    converted = nbformat.from_dict(notebook)
    formulas: list[str] = []
    for cell in converted.cells:
        if cell.cell_type == "markdown":
            cell.source = set_formulas_aside(cell.source, formulas)
    exporter = HTMLExporter(template_name="lab", embed_images=True, exclude_input_prompt=False)
    exporter.mathjax_url = exporter.require_js_url = exporter.mermaid_js_url = ""
    title = next((cell.source.splitlines()[0].lstrip("# ") for cell in converted.cells if cell.source), "Report")
    body, _ = exporter.from_notebook_node(converted, resources={"metadata": {"name": title, "path": str(folder)}})
    body = with_descriptions(without_remote_scripts(body), notebook).replace("</head>", f"{CODE_STYLE}</head>", 1)
    for number, formula in enumerate(formulas):
        body = body.replace(_placeholder(number), formula)
    with atomic_path(html) as partial:
        partial.write_text(body, encoding="utf-8")


def with_descriptions(body: str, notebook: nbformat.NotebookNode) -> str:
    """Put the alternative texts of the notebook's pictures into the HTML, where nbconvert leaves a stopgap."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = (output for output in outputs if "image/png" in output.get("data", {}))
    texts = (picture.metadata.get("image/png", {}).get("alt", "") for picture in pictures)
    stopgap = 'alt="No description has been provided for this image"'
    return re.sub(stopgap, lambda _: f'alt="{escape(next(texts, ""), quote=True)}"', body)


def set_formulas_aside(markdown: str, formulas: list[str]) -> str:
    """Replace `$...$` and `$$...$$` by placeholders and add their MathML, which browsers draw without a script, to a list.

    nbconvert's HTML parser does not know MathML and would tear it apart. Code spans are left alone.
    """

    def convert(match: re.Match) -> str:
        if match["code"] is not None:
            return match["code"]
        display = "inline" if match["block"] is None else "block"
        formulas.append(latex2mathml.converter.convert(match[display], display=display))
        return _placeholder(len(formulas) - 1)

    return FORMULA.sub(convert, markdown)


def _placeholder(number: int) -> str:
    return f"formula-set-aside-{number}-"


def without_remote_scripts(body: str) -> str:
    """Remove script and link tags that point to another host, and the diagram loader that would."""
    return ELSEWHERE.sub("", body)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
