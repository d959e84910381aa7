"""LibriSpeech from OpenSLR: fetched, verified, safely extracted and indexed.

LibriSpeech and its small cousin come from OpenSLR (SLR12 and SLR31). While one is fetched,
`<root>/.downloads/` holds the archive as `<name>.part`; a later run continues there. Finished subsets stand in
`<root>/librispeech/` and `<root>/mini/`, each with the manifests of its corpus.
"""

import contextlib
import gzip
import json
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import filelock
import requests

from vuilab.corpus.download import DownloadError, disk_error, download
from vuilab.corpus.index import IndexReport, scan_tree, write_splits
from vuilab.files import progress_bar

OPENSLR_URL = "https://www.openslr.org/resources"
LIBRISPEECH_URL = f"{OPENSLR_URL}/12"
MINI_URL = f"{OPENSLR_URL}/31"
VERIFIED = ".verified.json"  # lies in a subset's folder once its archive passed the checksum and was extracted


@dataclass(frozen=True)
class Subset:
    """One archive of the corpus."""

    corpus: str  # folder below the root, and name of the corpus
    resource: int  # number of the OpenSLR resource
    split: str  # manifest that its utterances go to
    archive_bytes: int  # about, used where the server does not say


SUBSETS = {
    "dev-clean": Subset("librispeech", 12, "validation", 338_000_000),
    "dev-other": Subset("librispeech", 12, "validation", 315_000_000),
    "test-clean": Subset("librispeech", 12, "test", 347_000_000),
    "test-other": Subset("librispeech", 12, "test", 329_000_000),
    "train-clean-100": Subset("librispeech", 12, "train", 6_390_000_000),
    "train-clean-360": Subset("librispeech", 12, "train", 23_050_000_000),
    "train-other-500": Subset("librispeech", 12, "train", 30_600_000_000),
    "dev-clean-2": Subset("mini", 31, "validation", 126_046_265),
    "train-clean-5": Subset("mini", 31, "train", 332_954_390),
}
MINI = ("train-clean-5", "dev-clean-2")
CHOICES = (*(name for name in SUBSETS if name not in MINI), "mini")  # what a user may ask for


# --------------------------------------------------------------------------------------------- LibriSpeech


def fetch_librispeech(
    subsets: Iterable[str],
    root: str | Path = "LibriSpeech",
    base_url: str | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    retries: int = 5,
) -> dict[str, IndexReport]:
    """Download, verify, extract and index subsets of LibriSpeech.

    A subset that stands there verified is not fetched again. The manifests of a corpus cover all its subsets
    that are there: train-* for training, dev-* for validation, test-* for testing.

    Args:
        subsets: names out of `CHOICES`; 'mini' is SLR31 (train-clean-5 and dev-clean-2).
        root: folder that gets `librispeech/` and `mini/`.
        base_url: address that stands for `OPENSLR_URL`, with the folders 12 and 31 below it (a mirror).
        progress: show progress bars.
        timeout: seconds without a byte after which a connection counts as dead.
        retries: attempts in a row without progress before giving up.

    Returns:
        One report for each corpus concerned: {'librispeech': ...} and / or {'mini': ...}.

    Raises:
        ValueError: for unknown subsets, a disk too small, or a folder that is in the way or not writable.
        DownloadError: when the server cannot be reached, or sends something else than its list promises.
    """
    names = _expand(subsets)
    root = Path(root)
    with downloads_folder(root) as downloads:
        wanted = [name for name in names if not _already_there(root, name)]
        base_url = (base_url or OPENSLR_URL).rstrip("/")
        network = {"progress": progress, "timeout": timeout, "retries": retries}
        sums = {
            resource: _fetch_md5_list(f"{base_url}/{resource}/md5sum.txt", downloads, network)
            for resource in sorted({SUBSETS[name].resource for name in wanted})
        }
        _require_space(wanted, downloads, base_url, timeout)
        for name in wanted:
            url = f"{base_url}/{SUBSETS[name].resource}/{name}.tar.gz"
            md5 = sums[SUBSETS[name].resource].get(f"{name}.tar.gz")
            if md5 is None:
                raise DownloadError(f"The server's md5sum.txt does not list {name}.tar.gz; it cannot be verified.")
            archive = download(url, downloads / f"{name}.tar.gz", md5=md5, **network)
            _install(archive, root / SUBSETS[name].corpus, name, {"url": url, "md5": md5}, progress)
    return {corpus: _index(root / corpus) for corpus in dict.fromkeys(SUBSETS[name].corpus for name in names)}


def _expand(subsets: Iterable[str]) -> list[str]:
    subsets = [subsets] if isinstance(subsets, str) else list(subsets)
    unknown = [name for name in subsets if name not in CHOICES]
    if unknown or not subsets:
        raise ValueError(f"Unknown or no LibriSpeech subset. Received: {subsets}. Choose from: {' '.join(CHOICES)}")
    return list(dict.fromkeys(part for name in subsets for part in (MINI if name == "mini" else (name,))))


@contextlib.contextmanager
def downloads_folder(root: Path) -> Iterator[Path]:
    """Make and lock the folder of unfinished downloads; remove it when nothing is left in it."""
    downloads = root / ".downloads"
    lock = filelock.FileLock(root / ".downloads.lock", timeout=0)
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise DownloadError(f"Another download into {root} is running; wait for it to end.") from error
    except OSError as error:
        raise ValueError(f"Cannot write into the folder {root} ({error.strerror}). Choose another one.") from error
    try:
        yield downloads
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            downloads.rmdir()


def _already_there(root: Path, name: str) -> bool:
    folder = root / SUBSETS[name].corpus / name
    if (folder / VERIFIED).is_file():
        print(f"{name}: already in {folder} and verified, not fetched again")
        return True
    if folder.exists():
        raise ValueError(
            f"{folder} exists, but was not made by this command. Move it away, or keep it and index it with"
            f" `python vui.py data index {folder} --out CORPUS`."
        )
    return False


def _fetch_md5_list(url: str, downloads: Path, network: dict) -> dict[str, str]:
    """Return file name -> MD5 from a list as md5sum writes it."""
    path = downloads / "md5sum.txt"
    for old in (path, *downloads.glob("md5sum.txt.part*")):
        old.unlink(missing_ok=True)
    text = download(url, path, **(network | {"progress": False})).read_text(encoding="utf-8", errors="replace")
    path.unlink()
    sums = {name: md5.lower() for md5, name in re.findall(r"(?m)^([0-9a-fA-F]{32})\s+\*?(?:\./)?(\S+)\s*$", text)}
    if not sums:
        raise DownloadError(f"{url} is not a list of MD5 sums. Received: {text[:60]!r}")
    return sums


def _require_space(names: list[str], downloads: Path, base_url: str, timeout: float) -> None:
    """Check that archives and extracted files fit on the disk.

    Archives are extracted one at a time and deleted, so the peak is everything extracted plus one archive.
    FLAC hardly compresses: extracted files need about the archive's size, and 5 % more for many small files.
    """
    if not names:
        return
    sizes = [_archive_bytes(f"{base_url}/{SUBSETS[name].resource}/{name}.tar.gz", name, timeout) for name in names]
    present = sum(path.stat().st_size for path in downloads.glob("*.tar.gz*"))  # archives, whole or in part
    needed = int(1.05 * sum(sizes)) + max(sizes) - min(present, max(sizes))
    free = shutil.disk_usage(downloads).free
    if needed > free:
        raise ValueError(
            f"Not enough space in {downloads.parent}: {' '.join(names)} needs {needed / 1e9:.1f} GB (archive and"
            f" extracted files) and {free / 1e9:.1f} GB are free. Make room, or choose another folder."
        )


def _archive_bytes(url: str, name: str, timeout: float) -> int:
    with (
        contextlib.suppress(requests.RequestException, ValueError),
        requests.head(url, timeout=timeout, allow_redirects=True) as response,
    ):
        if response.ok and "Content-Length" in response.headers:
            return int(response.headers["Content-Length"])
    return SUBSETS[name].archive_bytes


def _index(corpus_dir: Path) -> IndexReport:
    """Write the manifests of all verified subsets in the folder of a corpus."""
    splits: dict[str, list] = {"train": [], "validation": [], "test": []}
    left_out = []
    for name, subset in SUBSETS.items():
        if (corpus_dir / name / VERIFIED).is_file():
            utterances, problems = scan_tree(corpus_dir / name)
            splits[subset.split] += utterances
            left_out += problems
    return write_splits(corpus_dir, splits, left_out)


# ---------------------------------------------------------------------------------------------- extraction


def extract_safely(archive: str | Path, folder: str | Path, progress: bool = True) -> None:
    """Extract a tar archive that may hold nothing but plain files and folders inside `folder`.

    Args:
        archive: the file, compressed or not.
        folder: a new folder; it is removed again if anything goes wrong.
        progress: show a progress bar.

    Raises:
        DownloadError: for members with absolute names, with `..`, links and devices, and for a damaged archive.
        OSError: when the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    folder.mkdir(parents=True)
    try:
        with (
            tarfile.open(archive, "r:*") as tar,
            progress_bar(None, f"Extracting {archive.name}", None, " files", progress) as bar,
        ):
            if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on
                tar.extraction_filter = tarfile.data_filter
            for member in tar:
                _refuse_unsafe(member, archive)
                tar.extract(member, folder)
                bar.update()
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, tarfile.TarError | EOFError | zlib.error | gzip.BadGzipFile):
            raise DownloadError(
                f"{archive} is no intact tar archive ({error}). Delete it and fetch it again."
            ) from error
        raise


def _refuse_unsafe(member: tarfile.TarInfo, archive: Path) -> None:
    name = PurePosixPath(member.name.replace("\\", "/"))
    if not (member.isfile() or member.isdir()):
        problem = "a link or device, not a file"
    elif name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts[:1]):
        problem = "a name that leads out of the folder"
    else:
        return
    raise DownloadError(f"{archive.name} is refused: its member {member.name!r} is {problem}. Nothing was extracted.")


@contextlib.contextmanager
def extracted(archive: Path, name: str, progress: bool) -> Iterator[Path]:
    """Extract a verified archive aside and give that folder to the block, which moves into place what it wants of it.

    Afterwards folder and archive are gone; the archive stays only where the disk was at fault.

    Args:
        archive: the tar file.
        name: of what it holds.
        progress: show a bar.

    Raises:
        DownloadError: when the block says that the archive is not what it should be.
        ValueError: when the disk is full or cannot be written; see `disk_error`.
    """
    aside = archive.parent / f"{name}.extract"
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
    try:
        extract_safely(archive, aside, progress)
        yield aside
    except DownloadError:
        archive.unlink()
        raise
    except OSError as error:
        raise disk_error(error, archive.parent) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    archive.unlink()


def _install(archive: Path, corpus_dir: Path, name: str, record: dict, progress: bool) -> None:
    """Extract a verified archive aside, then move the subset and the corpus's tables into place."""
    with extracted(archive, name, progress) as aside:
        subset = aside / "LibriSpeech" / name
        if not subset.is_dir():
            raise DownloadError(f"{archive.name} does not hold a folder LibriSpeech/{name}; it is not that subset.")
        (subset / VERIFIED).write_text(json.dumps(record) + "\n")
        corpus_dir.mkdir(parents=True, exist_ok=True)
        for table in (aside / "LibriSpeech").glob("*.TXT"):
            table.replace(corpus_dir / table.name)
        subset.replace(corpus_dir / name)  # one step: the subset is there with its mark, or not at all
