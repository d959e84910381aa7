"""Fetching a file over HTTP: downloads that survive a bad line, continue where they stopped, and are verified.

While a file is fetched its bytes gather in `<name>.part`, and `<name>.part.etag` tells which version on the server
they belong to; a later call continues there.
"""

import contextlib
import errno
import hashlib
import re
import time
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from vuilab.files import progress_bar

CHUNK_BYTES = 2**18


class DownloadError(OSError):
    """A file could not be fetched, or what came is not what the server's list promises."""


def download(
    url: str,
    path: str | Path,
    md5: str | None = None,
    timeout: float = 30.0,
    retries: int = 5,
    progress: bool = True,
    backoff: float = 1.0,
) -> Path:
    """Fetch a file over HTTP; continue where an earlier attempt stopped; verify it.

    The bytes gather in `<path>.part` and become `path` when they are complete and, with `md5`, right. A
    wrong checksum is reported, the bytes are thrown away and fetched once more from the start.

    Args:
        url: http or https address.
        path: file to write. If it exists with the right checksum (or `md5` is None) nothing is fetched.
        md5: expected checksum in hexadecimal.
        timeout: seconds without a byte after which a connection counts as dead.
        retries: attempts in a row that bring no new byte before giving up.
        progress: show a progress bar.
        backoff: seconds before the first retry; doubled for each further one, up to 30.

    Returns:
        `path`.

    Raises:
        DownloadError: when the server refuses, the line stays dead, or the checksum is wrong twice.
        ValueError: when the disk is full or the folder cannot be written; the part that came is kept.
    """
    path = Path(path)
    md5 = md5 and md5.lower()
    if path.exists():
        if md5 is None or _md5(path, progress) == md5:
            return path
        print(f"{path.name}: the file there has a wrong checksum and is fetched again")
        path.unlink()
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, path.parent) from error
    if md5 is None and not _validator_file(part).exists():
        _discard(part)  # nothing would tell whether it belongs to the file that the server has now
    for attempt in (1, 2):
        _fetch_all(url, part, _Patience(retries, backoff, _size(part)), timeout, progress)
        found = _md5(part, progress) if md5 else None
        if found == md5:
            part.replace(path)
            _discard(part)
            return path
        message = f"{url}: wrong checksum. Expected MD5 {md5}, received {found} ({_size(part):,d} bytes)."
        _discard(part)
        if attempt == 1:
            print(f"{message} It is fetched once more.")
    raise DownloadError(f"{message} The file was removed; try later or from a mirror.")


def disk_error(error: OSError, folder: Path) -> ValueError:
    """Return what to tell the user when `folder` could not be written."""
    if error.errno == errno.ENOSPC:
        return ValueError(f"The disk is full: {folder}. Make room and run the same command again; it continues.")
    return ValueError(f"Cannot write into {folder} ({error.strerror}). Choose another folder.")


# -------------------------------------------------------------------------------------------- one request


class _Retry(Exception):
    """The connection failed in a way that may pass."""


class _Patience:
    """Counts attempts without progress and waits between them."""

    def __init__(self, retries: int, backoff: float, num_bytes: int):
        self.retries, self.backoff = retries, backoff
        self.failures = 0
        self.most_bytes = num_bytes

    def failed(self, url: str, num_bytes: int, reason: Exception) -> None:
        """Wait before the next attempt, or raise when there were too many in a row without a new byte."""
        self.failures = 0 if num_bytes > self.most_bytes else self.failures + 1
        self.most_bytes = max(num_bytes, self.most_bytes)
        if self.failures >= self.retries:
            raise DownloadError(
                f"Gave up on {url} after {self.retries} attempts without a new byte: {reason}. Check the network and"
                f" run the same command again; it continues after the {num_bytes:,d} bytes that are there."
            ) from reason
        time.sleep(min(30.0, self.backoff * 2**self.failures))


def _fetch_all(url: str, part: Path, patience: _Patience, timeout: float, progress: bool) -> None:
    """Fill `part` until the server says that it is complete."""
    with progress_bar(None, part.name.removesuffix(".part"), None, "B", progress) as bar:
        while True:
            try:
                if _fetch_once(url, part, timeout, bar):
                    return
            except (
                requests.exceptions.InvalidURL,
                requests.exceptions.MissingSchema,
                requests.exceptions.InvalidSchema,
            ) as error:
                raise DownloadError(f"{url!r} is no http or https address.") from error
            except (requests.RequestException, urllib3.exceptions.HTTPError, _Retry) as error:
                patience.failed(url, _size(part), error)


def _fetch_once(url: str, part: Path, timeout: float, bar: tqdm) -> bool:
    """Make one request for what `part` lacks. True when the file is complete, False to ask again at once."""
    offset = _size(part)
    with requests.get(url, headers=_range_headers(part, offset), stream=True, timeout=timeout) as response:
        status = response.status_code
        span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
        if status == 416 and offset:
            if span and span[2] == str(offset):
                return True  # everything was there already
            _discard(part)  # longer than the server's file, or the server does not say: from the start
            return False
        if status in (408, 425, 429) or status >= 500:
            raise _Retry(f"the server answered {status} {response.reason}")
        if status not in (200, 206):
            raise DownloadError(f"{url}: the server answered {status} {response.reason}. Check the address.")
        if status == 206 and (not span or span[1] != str(offset)):
            _discard(part)
            raise _Retry(f"the server sent another piece than asked for: {response.headers.get('Content-Range')}")
        if status == 200:
            offset = 0  # a fresh start, or the server ignores ranges, or the file there has changed
            _remember_validator(part, response.headers)
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdigit() else None
        bar.total, bar.n = total, offset
        _append(response, part, offset, bar)
    if total is not None and _size(part) < total:
        raise _Retry(f"the connection ended after {_size(part):,d} of {total:,d} bytes")
    return True


def _append(response: requests.Response, part: Path, offset: int, bar: tqdm) -> None:
    """Write the body to `part` from `offset` on; errors of the disk become ValueError."""
    try:
        file = part.open("r+b" if offset else "wb")
    except OSError as error:
        raise disk_error(error, part.parent) from error
    with file:
        file.truncate(offset)
        file.seek(offset)
        # read1 hands over what has arrived, so that a stall loses nothing; decode_content=False because some
        # servers call a .tar.gz "gzip-encoded", and its bytes are wanted as they are
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                raise disk_error(error, part.parent) from error
            bar.update(len(chunk))


def _range_headers(part: Path, offset: int) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        with contextlib.suppress(FileNotFoundError):
            headers["If-Range"] = _validator_file(part).read_text()
    return headers


def _remember_validator(part: Path, headers: requests.structures.CaseInsensitiveDict) -> None:
    """Keep what identifies this version of the file, so that a continued download does not mix two."""
    etag = headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    try:
        if validator:
            _validator_file(part).write_text(validator)
        else:
            _validator_file(part).unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, part.parent) from error


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _md5(path: Path, progress: bool) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file, progress_bar(None, f"Verifying {path.name}", _size(path), "B", progress) as bar:
        while chunk := file.read(2**20):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
