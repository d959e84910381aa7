"""Corpora from the network: archives that are fetched in one go or in several, verified, and safely extracted.

pooch compares checksums and fetches nothing twice. While an archive is fetched its bytes gather in
`<root>/.downloads/<name>.part`, where a later call continues. A corpus that passed stands in its folder with a mark.
"""

import contextlib
import dataclasses
import errno
import gzip
import json
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import pooch
import requests
import urllib3
from tqdm import tqdm

from vuilab.files import progress_bar

CHUNK_BYTES = 2**18
VERIFIED = ".verified.json"  # lies in a folder once its archive passed the checksum and was extracted
BUSY = (408, 425, 429)  # answers of 4xx that may pass
BACKOFF = 1.0  # seconds before the first retry; doubled for each further one, up to 30

pooch.get_logger().setLevel("WARNING")  # progress bars and errors say it all


class DownloadError(OSError):
    """A file could not be fetched, or what came is not what the server's list promises."""


def download(
    url: str,
    path: str | Path,
    md5: str | None = None,
    timeout: float = 30.0,
    retries: int = 5,
    progress: bool = True,
) -> Path:
    """Fetch a file over HTTP; continue where an earlier attempt stopped; verify it.

    The bytes gather in `<path>.part` and become `path` when they are complete and, with `md5`, right. A wrong checksum makes it
    fetch the file once more from the start.

    Args:
        url, path: http or https address, and the file to write.
        md5: expected checksum in hexadecimal; where the file has it, or none is given, a file that is there is not fetched.
            Without it, nothing of an earlier attempt is trusted.
        timeout, retries: seconds without a byte after which a connection counts as dead; attempts in a row that bring no new
            byte before giving up.
        progress: show a progress bar.

    Raises:
        DownloadError: when the server refuses, the line stays dead, or the checksum is wrong twice.
        ValueError: when the disk is full or the folder cannot be written; the part that came is kept.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    registry, urls = {path.name: md5 and f"md5:{md5}"}, {path.name: url}
    files = pooch.create(path.parent, base_url="", registry=registry, urls=urls, retry_if_failed=1)
    try:
        if md5 is None:
            part.unlink(missing_ok=True)
        files.fetch(path.name, downloader=_Resuming(part, timeout, retries, progress))
    except DownloadError:
        raise
    except ValueError as error:
        raise DownloadError(f"{url}: wrong checksum, twice. {error} Try later or from a mirror.") from error
    except OSError as error:
        raise disk_error(error, path.parent) from error
    return path


def disk_error(error: OSError, folder: Path) -> ValueError:
    """Return what to tell the user when `folder` could not be written."""
    if error.errno == errno.ENOSPC:
        return ValueError(f"The disk is full: {folder}. Make room and run the same command again; it continues.")
    return ValueError(f"Cannot write into the folder {folder} ({error.strerror}). Choose another folder.")


@dataclasses.dataclass(frozen=True)
class _Resuming:
    """A downloader for pooch that goes on after a bad line: in this call, and in one after it was killed."""

    part: Path  # where the bytes gather
    timeout: float  # seconds without a byte after which a connection counts as dead
    retries: int  # attempts in a row that bring no new byte before giving up
    progress: bool

    def __call__(self, url: str, output_file: str, _: pooch.Pooch) -> None:
        """Fetch an address into a file."""
        failures, most = 0, self._size()
        with progress_bar(None, self.part.name.removesuffix(".part"), None, "B", self.progress) as bar:
            while True:
                try:
                    self._request(url, bar)
                    break
                except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                    if isinstance(error, ValueError):
                        raise DownloadError(f"{url!r} is no http or https address.") from error
                    failures = 0 if self._size() > most else failures + 1
                    most = max(most, self._size())
                    if failures >= self.retries:
                        raise DownloadError(
                            f"Gave up on {url} after {failures} attempts without a new byte: {error}. Check the network and run "
                            f"the same command again; it continues after the {self._size():,d} bytes that are there."
                        ) from error
                    time.sleep(min(30.0, BACKOFF * 2**failures))
        self.part.replace(output_file)

    def _request(self, url: str, bar: tqdm) -> None:
        """Ask for what is missing. When this returns, the server has no more."""
        offset = self._size()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            status = response.status_code
            if status == 416:  # nothing was missing; the checksum tells whether it is the right file
                return
            if 400 <= status < 500 and status not in BUSY:
                raise DownloadError(f"{url}: the server answered {status} {response.reason}. Check the address.")
            response.raise_for_status()
            if status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                self.part.unlink()
                raise requests.RequestException("the server sent another piece than asked for")
            start = offset if status == 206 else 0  # some servers ignore ranges
            bar.total, bar.n = start + int(response.headers.get("Content-Length", 0)) or None, start
            with self.part.open("r+b" if start else "wb") as file:
                file.seek(start)
                # read1 hands over what has arrived, so that a stall loses nothing; decode_content=False because some
                # servers call a .tar.gz "gzip-encoded", and its bytes are wanted as they are
                while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                    file.write(chunk)
                    bar.update(len(chunk))

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


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
        raise disk_error(error, root) from error
    try:
        yield downloads
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            downloads.rmdir()


def is_installed(folder: Path, command: str) -> bool:
    """Whether a verified corpus stands in a folder already; `command` uses the folder of a user as it is.

    Raises:
        ValueError: when the folder is there and did not come from here.
    """
    if (folder / VERIFIED).is_file():
        print(f"{folder.name}: already in {folder} and verified, not fetched again")
        return True
    if folder.exists():
        raise ValueError(
            f"{folder} exists, but was not made by this command. Move it away, or use it as it is: `{command}`."
        )
    return False


def require_space(downloads: Path, names: Sequence[str], sizes: Sequence[int], unpacked: float) -> None:
    """Check that archives and what they hold fit on the disk.

    They are extracted one at a time and deleted, so that the peak is everything extracted and one archive.

    Args:
        downloads: folder of the archives, some of which may be there in part.
        names, sizes: what is fetched, and bytes of each archive, about.
        unpacked: size of what an archive holds over its own.

    Raises:
        ValueError: when they do not fit.
    """
    if not names:
        return
    present = sum(path.stat().st_size for path in downloads.glob("*.tar.gz*"))
    needed = int(unpacked * sum(sizes)) + max(sizes) - min(present, max(sizes))
    free = shutil.disk_usage(downloads).free
    if needed > free:
        raise ValueError(
            f"Not enough space in {downloads.parent}: {' '.join(names)} needs {needed / 1e9:.1f} GB (archive and extracted "
            f"files) and {free / 1e9:.1f} GB are free. Make room, or choose another folder."
        )


@contextlib.contextmanager
def extracted(archive: Path, name: str, progress: bool) -> Iterator[Path]:
    """Extract a verified tar archive aside and give that folder to the block, which moves into place what it wants of it.

    Nothing gets out of that folder (the `data` filter of PEP 706). Afterwards folder and archive are gone; the archive stays
    only where the disk was at fault.

    Raises:
        DownloadError: for a damaged archive, for one with devices or with members and links that lead out of the folder, and
            when the block says that it is not what it should be.
        ValueError: when the disk is full or cannot be written; see `disk_error`.
    """
    aside = archive.parent / f"{name}.extract"
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
    try:
        aside.mkdir()
        try:
            with tarfile.open(archive, "r:*") as tar:
                members = progress_bar(tar, f"Extracting {archive.name}", None, " files", progress)
                tar.extractall(aside, members, filter="data")
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DownloadError(
                f"{archive.name} is damaged or dangerous ({error}). Nothing was extracted; fetch it again."
            ) from error
        yield aside
    except DownloadError:
        archive.unlink()
        raise
    except OSError as error:
        raise disk_error(error, archive.parent) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    archive.unlink()


def mark_verified(folder: Path, url: str, md5: str) -> None:
    """Write into a folder where it came from, which is the mark that `is_installed` looks for."""
    (folder / VERIFIED).write_text(json.dumps({"url": url, "md5": md5}) + "\n")
