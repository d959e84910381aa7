"""What the benchmarks share: worker processes, tables, medians, and the files they leave.

Every measurement runs in a process of its own that is started with the same environment (`worker_environment`). A worker
reads requests, one JSON object a line, from its standard input and answers each with one line on its standard output; whatever
libraries print goes to its standard error, of which the end is shown when the worker fails.
"""

import argparse
import concurrent.futures
import contextlib
import importlib.metadata
import json
import math
import multiprocessing
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vuilab.files import atomic_path, repository

RESULTS = repository() / "benchmarks" / "results"
MALLOC = (
    "glibc.malloc.hugetlb=1"  # asks for huge pages; without them large fresh arrays cost page faults in every library
)
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLIBC_TUNABLES": MALLOC}
BACKENDS = ("tensorflow", "jax")


class WorkerError(RuntimeError):
    """A worker process ended before it answered."""


def worker_environment(backend: str = "tensorflow") -> dict[str, str]:
    """Return the environment of a worker: this process's own, with the variables that all contestants share."""
    return {**os.environ, **ENVIRONMENT, "KERAS_BACKEND": backend}


class Worker:
    """A process that measures on request.

    Args:
        module: run as `python -m module`.
        arguments: of its command line.
        backend: of Keras, 'tensorflow' or 'jax'.
    """

    def __init__(self, module: str, arguments: Sequence[str], backend: str = "tensorflow"):
        self.name = " ".join([module, *arguments])
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=repository(),
            env=worker_environment(backend),
        )

    def ask(self, **request) -> dict:
        """Send a request and return the answer.

        Raises:
            WorkerError: when the process ends instead of answering; the message ends with what it printed last.
        """
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.log.seek(0)
            tail = "\n  ".join(self.log.read().strip().splitlines()[-8:])
            raise WorkerError(f"`python -m {self.name}` ended with code {code} instead of answering:\n  {tail}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def serve(answer: Callable[[dict], dict]) -> None:
    """Answer requests until the standard input ends; the worker's side of `Worker.ask`."""
    for line in sys.stdin:
        reply = json.dumps(answer(json.loads(line)))
        _channel().write(reply + "\n")
        _channel().flush()


_replies = None


def _channel():
    global _replies
    if _replies is None:
        claim_stdout()
    return _replies


def claim_stdout() -> None:
    """Keep the standard output for answers and send what libraries print to the standard error; call it first."""
    global _replies
    sys.stdout.flush()
    _replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def in_own_process(function: Callable, *arguments):
    """Return what a function of an importable module gives when it runs in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


# ------------------------------------------------------------------------------------------------- numbers


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive numbers.

    Example:
        >>> geometric_mean([1.0, 4.0])
        2.0
    """
    values = list(values)
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def peak_memory_mb() -> float:
    """Return the most memory that this process has held so far, in MB, mapped files included."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


# -------------------------------------------------------------------------------------------------- output


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left, the others to the right.

    Example:
        >>> print(table(["model", "s"], [["model_0", "1"]]))
        | model | s |
        | --- | ---: |
        | model_0 | 1 |
    """
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def goal(text: str, value: float, met: bool, unit: str = "") -> str:
    """Return a line that says whether a goal is met."""
    return f"- {'met    ' if met else 'NOT MET'}: {text}: {value:.2f}{unit}"


def environment() -> dict:
    """Return commit, versions, machine and date, as run records hold them, with the command that this process runs."""
    script = "import json; from vuilab.runs.record import environment; print('\\n' + json.dumps(environment()))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=repository(),
        env=worker_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(found.stdout.strip().splitlines()[-1])
    del result["backend"]  # the benchmarks run on both
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        result["versions"]["torch"] = importlib.metadata.version("torch")
    result["command"] = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    result["variables"] = ENVIRONMENT
    return result


def header(title: str, found: dict, notes: Iterable[str] = ()) -> str:
    """Return the head of a report: what was run, where, and what a reader must know."""
    machine, versions = found["machine"], found["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    variables = " ".join(f"{name}={value}" for name, value in found["variables"].items())
    lines = [
        f"# {title}",
        "",
        f"`{found['command']}`",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; Python {found['python']}, {packages}.",
        f"Commit {found['commit'][:12]}{'' if found['clean'] else ' with uncommitted changes'}, {found['date'][:10]}. "
        f"Every process that measures was started with {variables}.",
        *notes,
    ]
    return "\n".join(lines) + "\n"


def save(options: argparse.Namespace, name: str, data: dict, report: str) -> Path:
    """Write `<name>.json` and `<name>.md` and return the path of the second."""
    folder = Path(options.out)
    name = f"{name}-quick" if options.quick else name
    for suffix, text in ((".json", json.dumps(data, indent=1) + "\n"), (".md", report.rstrip() + "\n")):
        with atomic_path(folder / f"{name}{suffix}") as partial:
            partial.write_text(text)
    return folder / f"{name}.md"


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark has."""
    parser.add_argument("--out", default=str(RESULTS.relative_to(repository())), help="folder for the results")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to try the script out; the numbers say nothing"
    )


def parse(parser: argparse.ArgumentParser, quick: dict) -> argparse.Namespace:
    """Parse the command line; with --quick the options in `quick` have other defaults. Processes inherit `ENVIRONMENT`."""
    os.environ.update(ENVIRONMENT)
    add_common_options(parser)
    if "--quick" in sys.argv[1:]:
        parser.set_defaults(**quick)
    return parser.parse_args()


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)
