"""LibriSpeech from OpenSLR: fetched, verified, safely extracted and indexed.

LibriSpeech and its small cousin come from OpenSLR (SLR12 and SLR31). Finished subsets stand in `<root>/librispeech/` and
`<root>/mini/`, each with the manifests of its corpus.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vuilab.corpus.download import (
    VERIFIED,
    DownloadError,
    download,
    downloads_folder,
    extracted,
    is_installed,
    mark_verified,
    require_space,
)
from vuilab.corpus.index import IndexReport, scan_tree, write_splits

OPENSLR_URL = "https://www.openslr.org/resources"
UNPACKED = 1.05  # size of extracted files over that of their archive: FLAC hardly compresses


@dataclass(frozen=True)
class Subset:
    """One archive of the corpus."""

    corpus: str  # folder below the root, and name of the corpus
    resource: int  # number of the OpenSLR resource
    split: str  # manifest that its utterances go to
    archive_bytes: int  # about


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
        progress, timeout, retries: see `download`.

    Returns:
        One report for each corpus concerned: {'librispeech': ...} and / or {'mini': ...}.

    Raises:
        ValueError: for unknown subsets, a disk too small, or a folder that is in the way or not writable.
        DownloadError: when the server cannot be reached, or sends something else than its list promises.
    """
    names = _expand(subsets)
    root = Path(root)
    with downloads_folder(root) as downloads:
        folders = {name: root / SUBSETS[name].corpus / name for name in names}
        use = "python vui.py data index {} --out CORPUS"
        wanted = [name for name, folder in folders.items() if not is_installed(folder, use.format(folder))]
        base_url = (base_url or OPENSLR_URL).rstrip("/")
        network = {"progress": progress, "timeout": timeout, "retries": retries}
        sums = {
            resource: _fetch_md5_list(f"{base_url}/{resource}/md5sum.txt", downloads, network)
            for resource in sorted({SUBSETS[name].resource for name in wanted})
        }
        require_space(downloads, wanted, [SUBSETS[name].archive_bytes for name in wanted], UNPACKED)
        for name in wanted:
            url = f"{base_url}/{SUBSETS[name].resource}/{name}.tar.gz"
            md5 = sums[SUBSETS[name].resource].get(f"{name}.tar.gz")
            if md5 is None:
                raise DownloadError(f"The server's md5sum.txt does not list {name}.tar.gz; it cannot be verified.")
            archive = download(url, downloads / f"{name}.tar.gz", md5=md5, **network)
            with extracted(archive, name, progress) as aside:
                _install(aside / "LibriSpeech", root / SUBSETS[name].corpus, name, (url, md5))
    return {corpus: _index(root / corpus) for corpus in dict.fromkeys(SUBSETS[name].corpus for name in names)}


def _expand(subsets: Iterable[str]) -> list[str]:
    subsets = [subsets] if isinstance(subsets, str) else list(subsets)
    unknown = [name for name in subsets if name not in CHOICES]
    if unknown or not subsets:
        raise ValueError(f"Unknown or no LibriSpeech subset. Received: {subsets}. Choose from: {' '.join(CHOICES)}")
    return list(dict.fromkeys(part for name in subsets for part in (MINI if name == "mini" else (name,))))


def _fetch_md5_list(url: str, downloads: Path, network: dict) -> dict[str, str]:
    """Return file name -> MD5 from a list as md5sum writes it."""
    path = downloads / "md5sum.txt"
    path.unlink(missing_ok=True)  # of a run that was killed
    text = download(url, path, **(network | {"progress": False})).read_text(encoding="utf-8", errors="replace")
    path.unlink()
    sums = {name: md5.lower() for md5, name in re.findall(r"(?m)^([0-9a-fA-F]{32})\s+\*?(?:\./)?(\S+)\s*$", text)}
    if not sums:
        raise DownloadError(f"{url} is not a list of MD5 sums. Received: {text[:60]!r}")
    return sums


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


def _install(tree: Path, corpus_dir: Path, name: str, source: tuple[str, str]) -> None:
    """Move a subset and the corpus's tables into place."""
    if not (tree / name).is_dir():
        raise DownloadError(f"{name}.tar.gz does not hold a folder LibriSpeech/{name}; it is not that subset.")
    mark_verified(tree / name, *source)
    corpus_dir.mkdir(parents=True, exist_ok=True)
    for table in tree.glob("*.TXT"):
        table.replace(corpus_dir / table.name)
    (tree / name).replace(corpus_dir / name)  # one step: the subset is there with its mark, or not at all
