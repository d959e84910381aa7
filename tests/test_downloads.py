import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import downloads
from corpora import read_manifest
from downloads import DownloadError, download, extract_safely, fetch_librispeech

BODY = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()
QUICK = {"progress": False, "backoff": 0.001, "timeout": 5, "retries": 3}


class Server:
    """A web server on the loopback interface that can be told to misbehave.

    `files` maps paths to bytes. `faults` is a list of faults for the GET requests to come, one each, in order;
    an empty list means good service. `requests` records (path, Range header, If-Range header).
    """

    def __init__(self):
        self.files, self.faults, self.requests = {}, [], []
        self.ranges, self.etag, self.released = True, '"one"', threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.answer(self)

            def do_HEAD(self):
                server.answer(self, head=True)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def answer(self, handler, head=False):
        handler.close_connection = True
        body = self.files.get(handler.path)
        if head or body is None:
            handler.send_response(200 if body is not None else 404)
            handler.send_header("Content-Length", str(len(body or b"")))
            handler.end_headers()
            return
        asked, if_range = handler.headers.get("Range"), handler.headers.get("If-Range")
        self.requests.append((handler.path, asked, if_range))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            handler.send_response(fault)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start, status = 0, 200
        if asked and self.ranges and fault != "no range" and if_range in (None, self.etag):
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
        if start >= len(body) and status == 206:
            handler.send_response(416)
            if fault != "silent 416":
                handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = body[start:]
        handler.send_response(status)
        if status == 206:
            shift = 1 if fault == "other piece" else 0
            handler.send_header(
                "Content-Range", f"bytes {start + shift}-{start + len(body) - 1}/{start + len(body)}"
            )
        if self.etag:
            handler.send_header("ETag", self.etag)
        lie = {"says more": 1000, "says less": -1000}.get(fault, 0)
        if fault != "no length":
            handler.send_header("Content-Length", str(len(body) + lie))
        if fault == "called gzip":
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        if fault in ("cut", "stall"):
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            if fault == "stall":
                self.released.wait(10)
            return
        if fault == "wrong bytes":
            body = bytes(len(body))
        try:
            handler.wfile.write(body)
        except ConnectionError:
            pass  # the client left at the length it was told


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    server.files["/file.bin"] = BODY
    yield server
    server.close()


def fetch(server, tmp_path, md5=MD5, **options):
    return download(f"{server.url}/file.bin", tmp_path / "file.bin", md5=md5, **(QUICK | options))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def check_done(tmp_path):
    assert (tmp_path / "file.bin").read_bytes() == BODY
    assert names(tmp_path) == ["file.bin"]


# ------------------------------------------------------------------------------------------------ download


def test_good_service_takes_one_request_and_leaves_one_file(server, tmp_path):
    assert fetch(server, tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "file.bin"
    check_done(tmp_path / "new" / "folder")
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["no length", "called gzip", "says more", 503, 429])
@pytest.mark.parametrize("md5", [MD5, None])
def test_single_fault_is_overcome(server, tmp_path, fault, md5):
    server.faults = [fault]
    fetch(server, tmp_path, md5)
    check_done(tmp_path)


def test_cut_line_is_continued_where_it_broke(server, tmp_path):
    server.faults = ["cut", "cut"]
    fetch(server, tmp_path)
    check_done(tmp_path)
    assert [asked for _, asked, _ in server.requests] == [None, "bytes=150000-", "bytes=225000-"]
    assert [if_range for _, _, if_range in server.requests] == [None, '"one"', '"one"']


def test_many_cuts_are_overcome_as_long_as_bytes_arrive(server, tmp_path):
    server.faults = ["cut"] * 8  # more than the three attempts without progress
    fetch(server, tmp_path)
    check_done(tmp_path)


def test_stall_times_out_and_is_continued(server, tmp_path):
    server.faults = ["stall"]
    fetch(server, tmp_path, timeout=0.3)
    check_done(tmp_path)
    assert server.requests[1][1] == "bytes=150000-"


def test_dead_line_gives_up_and_keeps_the_part(server, tmp_path):
    server.faults = ["cut"] + [500] * 99
    with pytest.raises(
        DownloadError, match=r"Gave up on .*file\.bin after 3 attempts .*continues after the 150,000"
    ):
        fetch(server, tmp_path)
    assert len(server.requests) == 4
    assert (tmp_path / "file.bin.part").read_bytes() == BODY[:150_000]
    server.faults = []
    fetch(server, tmp_path)
    check_done(tmp_path)
    assert server.requests[-1][1] == "bytes=150000-"


def test_server_that_nobody_runs_is_named(server, tmp_path):
    server.http.server_close()
    with pytest.raises(DownloadError, match=rf"Gave up on {server.url}/file\.bin"):
        fetch(server, tmp_path)


def test_missing_file_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(DownloadError, match=r"nothing\.bin: the server answered 404"):
        download(f"{server.url}/nothing.bin", tmp_path / "nothing.bin", **QUICK)
    server.faults = [403]
    with pytest.raises(DownloadError, match="403"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1
    with pytest.raises(DownloadError, match="'file.bin' is no http or https address"):
        download("file.bin", tmp_path / "x", **QUICK)


def test_server_that_ignores_ranges_makes_it_start_again(server, tmp_path):
    server.ranges = False
    server.faults = ["cut"]
    fetch(server, tmp_path)
    check_done(tmp_path)
    server.faults = ["cut"] * 99  # never gets further than the first half
    with pytest.raises(DownloadError, match="Gave up"):
        fetch(server, tmp_path / "again")


def test_part_of_a_killed_run_is_continued(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(BODY[:1000])
    fetch(server, tmp_path)
    check_done(tmp_path)
    assert server.requests == [("/file.bin", "bytes=1000-", None)]


@pytest.mark.parametrize("fault", [None, "silent 416"])
def test_part_that_was_complete_already_is_accepted(server, tmp_path, fault):
    (tmp_path / "file.bin.part").write_bytes(BODY)
    server.faults = [fault]
    fetch(server, tmp_path)
    check_done(tmp_path)


def test_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(BODY + b"more")
    fetch(server, tmp_path)
    check_done(tmp_path)


def test_part_of_something_else_is_found_by_its_checksum(server, tmp_path, capsys):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    fetch(server, tmp_path)
    check_done(tmp_path)
    assert "wrong checksum" in capsys.readouterr().out


def test_part_without_checksum_or_version_is_not_trusted(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    fetch(server, tmp_path, md5=None)
    check_done(tmp_path)


def test_file_that_changed_on_the_server_is_fetched_from_the_start(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / "file.bin.part.etag").write_text('"older"')
    fetch(server, tmp_path, md5=None)
    check_done(tmp_path)
    assert server.requests == [("/file.bin", "bytes=1000-", '"older"')]


def test_wrong_piece_is_not_glued_on(server, tmp_path):
    server.faults = ["cut", "other piece"]
    fetch(server, tmp_path, md5=None)
    check_done(tmp_path)


def test_weak_etag_is_no_version(server, tmp_path):
    server.etag = 'W/"weak"'
    server.faults = ["cut"]
    fetch(server, tmp_path)
    assert server.requests[1][1:] == ("bytes=150000-", None)


@pytest.mark.parametrize("fault", ["wrong bytes", "says less"])
def test_wrong_checksum_is_tried_once_more_then_removed(server, tmp_path, fault, capsys):
    server.faults = [fault]
    fetch(server, tmp_path / "passing")
    check_done(tmp_path / "passing")
    assert "wrong checksum" in capsys.readouterr().out
    server.faults = [fault, fault]
    with pytest.raises(
        DownloadError, match=rf"wrong checksum. Expected MD5 {MD5}, received [0-9a-f]+ .*was removed"
    ):
        fetch(server, tmp_path / "lasting")
    assert names(tmp_path / "lasting") == []
    assert len(server.requests) == 4


def test_length_that_is_always_too_long_is_an_error_where_ranges_do_not_help(server, tmp_path):
    server.ranges = False
    server.faults = ["says more"] * 99
    with pytest.raises(DownloadError, match="Gave up"):
        fetch(server, tmp_path)


def test_verified_file_is_not_fetched_again_and_a_broken_one_is(server, tmp_path, capsys):
    (tmp_path / "file.bin").write_bytes(BODY)
    fetch(server, tmp_path, md5=MD5.upper())
    assert server.requests == []
    (tmp_path / "file.bin").write_bytes(BODY[:-1])
    fetch(server, tmp_path)
    check_done(tmp_path)
    assert "wrong checksum" in capsys.readouterr().out


def test_full_disk_is_named_and_the_part_continues_later(server, tmp_path, monkeypatch):
    written = []

    class FullDisk(io.FileIO):
        def write(self, chunk):
            if written:
                raise OSError(28, "No space left on device")
            written.append(chunk)
            return super().write(chunk)

    monkeypatch.setattr(downloads, "CHUNK_BYTES", 2**16)
    with monkeypatch.context() as patch:
        patch.setattr(downloads.Path, "open", lambda path, mode: FullDisk(path, mode))
        with pytest.raises(ValueError, match="The disk is full: .*Make room"):
            fetch(server, tmp_path)
    assert (tmp_path / "file.bin.part").read_bytes() == written[0]
    fetch(server, tmp_path)
    check_done(tmp_path)


def test_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="Cannot write into .*file"):
        download(f"{server.url}/file.bin", tmp_path / "file" / "file.bin", **QUICK)


# ---------------------------------------------------------------------------------------------- extraction


def tar_bytes(members, mode="w:gz"):
    """Pack (name, bytes) or ready TarInfo objects."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


UNSAFE = {
    "parent": "../evil",
    "hidden parent": "good/../../evil",
    "absolute": "/tmp/evil",
    "backslashes": "good\\..\\..\\evil",
    "drive": "C:/evil",
    "symlink inside": special("link", tarfile.SYMTYPE, "good.txt"),
    "symlink outside": special("link", tarfile.SYMTYPE, "/etc"),
    "hard link": special("link", tarfile.LNKTYPE, "good.txt"),
    "device": special("device", tarfile.CHRTYPE),
    "fifo": special("fifo", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("member", UNSAFE.values(), ids=UNSAFE)
def test_unsafe_members_are_refused_and_nothing_stays(tmp_path, member):
    (tmp_path / "a.tar.gz").write_bytes(tar_bytes([("good.txt", b"good"), (member, b"")]))
    with pytest.raises(DownloadError, match=r"a\.tar\.gz is refused: its member .* Nothing was extracted"):
        extract_safely(tmp_path / "a.tar.gz", tmp_path / "in" / "out", progress=False)
    assert [path.name for path in tmp_path.rglob("*")] in (["a.tar.gz", "in"], ["in", "a.tar.gz"])


def test_damaged_archives_are_named_and_nothing_stays(tmp_path):
    good = tar_bytes([("a", np.random.default_rng(0).bytes(100_000)), ("b", b"b")])
    flipped = bytearray(good)
    flipped[50_000] ^= 255
    for content in (good[:50_000], bytes(flipped), b"no archive", b""):
        (tmp_path / "a.tar.gz").write_bytes(content)
        with pytest.raises(DownloadError, match=r"a\.tar\.gz is no intact tar archive"):
            extract_safely(tmp_path / "a.tar.gz", tmp_path / "out", progress=False)
        assert names(tmp_path) == ["a.tar.gz"]


def test_plain_archives_are_extracted(tmp_path):
    folder = special(".", tarfile.DIRTYPE)
    (tmp_path / "a.tar").write_bytes(tar_bytes([(folder, b""), ("./d/a.txt", b"a")], mode="w"))
    extract_safely(tmp_path / "a.tar", tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "d" / "a.txt").read_bytes() == b"a"


# --------------------------------------------------------------------------------------------- LibriSpeech


def subset_archive(name, speaker, extra=()):
    """A LibriSpeech archive with two utterances of one speaker, as (md5, bytes)."""
    members = [("LibriSpeech/SPEAKERS.TXT", b";ID|SEX|SUBSET|MINUTES|NAME\n")]
    folder = f"LibriSpeech/{name}/{speaker}/7"
    for number in range(2):
        audio = io.BytesIO()
        samples = 0.05 * np.random.default_rng(number).standard_normal(8000)
        soundfile.write(audio, samples, 16_000, format="FLAC")
        members.append((f"{folder}/{speaker}-7-000{number}.flac", audio.getvalue()))
    text = f"{speaker}-7-0000 ONE\n{speaker}-7-0001 TWO\n".encode()
    members.append((f"{folder}/{speaker}-7.trans.txt", text))
    content = tar_bytes([*members, *extra])
    return hashlib.md5(content).hexdigest(), content


@pytest.fixture
def openslr(server, monkeypatch):
    """The loopback server dressed as OpenSLR; waiting between attempts is skipped."""
    for resource, subsets in {
        12: ("train-clean-100", "dev-clean", "dev-other", "test-clean"),
        31: downloads.MINI,
    }.items():
        sums = ""
        for number, name in enumerate(subsets):
            md5, content = subset_archive(name, str(1000 * resource + number))
            server.files[f"/{resource}/{name}.tar.gz"] = content
            sums += f"{md5}  {'./' if number else ''}{name}.tar.gz\n"
        server.files[f"/{resource}/md5sum.txt"] = sums.encode()
    monkeypatch.setattr(downloads, "time", SimpleNamespace(sleep=lambda seconds: None))
    return server


def get(openslr, root, *subsets, **options):
    return fetch_librispeech(
        subsets, root, base_url=openslr.url, **({"progress": False, "timeout": 5} | options)
    )


def archive_requests(openslr):
    return [path for path, _, _ in openslr.requests if path.endswith(".tar.gz")]


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".downloads.lock")


def test_subsets_become_one_corpus_with_manifests_by_kind(openslr, tmp_path):
    reports = get(openslr, tmp_path, "train-clean-100", "dev-clean", "test-clean")
    corpus = tmp_path / "librispeech"
    speakers = {
        name: {utterance.speaker for utterance in read_manifest(corpus / f"{name}_corpus.json")}
        for name in ("train", "valid", "test")
    }
    assert speakers == {"train": {"12000"}, "valid": {"12001"}, "test": {"12003"}}
    assert read_manifest(corpus / "train_corpus.json")[1].text == "two"
    assert visible(tmp_path) == ["librispeech"]
    assert (corpus / "SPEAKERS.TXT").exists()
    assert list(reports) == ["librispeech"] and reports["librispeech"].left_out == []


def test_mini_is_a_corpus_of_its_own(openslr, tmp_path):
    reports = get(openslr, tmp_path, "mini")
    assert list(reports) == ["mini"]
    assert [u.speaker for u in read_manifest(tmp_path / "mini" / "train_corpus.json")] == ["31000"] * 2
    assert [u.speaker for u in read_manifest(tmp_path / "mini" / "valid_corpus.json")] == ["31001"] * 2
    assert visible(tmp_path) == ["mini"]


def test_later_subsets_join_and_verified_ones_are_not_fetched_again(openslr, tmp_path, capsys):
    get(openslr, tmp_path, "dev-clean")
    openslr.requests.clear()
    report = get(openslr, tmp_path, "dev-clean", "dev-other")["librispeech"]
    assert archive_requests(openslr) == ["/12/dev-other.tar.gz"]
    assert report.splits["validation"]["speakers"] == ["12001", "12002"]
    assert "dev-clean: already in" in capsys.readouterr().out


def test_what_is_there_needs_no_network(openslr, tmp_path):
    get(openslr, tmp_path, "mini")
    openslr.requests.clear()
    get(openslr, tmp_path, "mini")
    assert openslr.requests == []


def test_unfinished_runs_are_taken_up(openslr, tmp_path):
    hidden = tmp_path / ".downloads"
    (hidden / "dev-clean.extract" / "LibriSpeech" / "dev-clean").mkdir(
        parents=True
    )  # killed while extracting
    (hidden / "dev-clean.tar.gz").write_bytes(openslr.files["/12/dev-clean.tar.gz"])
    (hidden / "test-clean.tar.gz.part").write_bytes(openslr.files["/12/test-clean.tar.gz"][:100])
    get(openslr, tmp_path, "dev-clean", "test-clean")
    assert [request[:2] for request in openslr.requests[1:]] == [("/12/test-clean.tar.gz", "bytes=100-")]
    assert visible(tmp_path) == ["librispeech"]


def test_wrong_archive_leaves_no_corpus(openslr, tmp_path):
    openslr.files["/12/dev-clean.tar.gz"] = bytes(1000)
    with pytest.raises(DownloadError, match=r"dev-clean\.tar\.gz: wrong checksum"):
        get(openslr, tmp_path, "dev-clean")
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "extra", "message"),
    [
        ("dev-clean", [("../evil", b"")], r"member '../evil' is a name that leads out"),
        ("another", [], r"does not hold a folder LibriSpeech/dev-clean"),
    ],
)
def test_archive_with_the_right_checksum_and_the_wrong_content_leaves_nothing(
    openslr, tmp_path, name, extra, message
):
    md5, content = subset_archive(name, "1", extra)
    openslr.files["/12/dev-clean.tar.gz"] = content
    openslr.files["/12/md5sum.txt"] = f"{md5} *dev-clean.tar.gz\n".encode()
    with pytest.raises(DownloadError, match=message):
        get(openslr, tmp_path / "root", "dev-clean")
    assert visible(tmp_path / "root") == [] and visible(tmp_path) == ["root"]


def test_full_disk_while_extracting_keeps_the_archive_and_recovers(openslr, tmp_path, monkeypatch):
    def full(tar, member, folder):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", full)
        with pytest.raises(ValueError, match="The disk is full"):
            get(openslr, tmp_path, "dev-clean")
    assert visible(tmp_path) == [".downloads"] and names(tmp_path / ".downloads") == ["dev-clean.tar.gz"]
    get(openslr, tmp_path, "dev-clean")
    assert len(archive_requests(openslr)) == 1
    assert visible(tmp_path) == ["librispeech"]


def test_too_little_space_is_refused_before_the_download(openslr, tmp_path, monkeypatch):
    size = len(openslr.files["/12/dev-clean.tar.gz"])
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * size))
    with pytest.raises(ValueError, match=r"Not enough space in .*: dev-clean needs .* GB are free"):
        get(openslr, tmp_path, "dev-clean")
    assert archive_requests(openslr) == []
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=int(2.1 * size)))
    get(openslr, tmp_path, "dev-clean")


def test_folder_in_the_way_is_not_overwritten(openslr, tmp_path):
    (tmp_path / "librispeech" / "dev-clean").mkdir(parents=True)
    with pytest.raises(ValueError, match="dev-clean exists, but was not made by this command"):
        get(openslr, tmp_path, "dev-clean")
    assert openslr.requests == []


@pytest.mark.parametrize("subsets", [["dev-clen"], []])
def test_unknown_subset_lists_the_known_ones(tmp_path, subsets):
    with pytest.raises(ValueError, match="Choose from: dev-clean .* train-other-500 mini"):
        fetch_librispeech(subsets, tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"<html>Sorry</html>", "is not a list of MD5 sums"),
        (b"0" * 32 + b"  other.tar.gz\n", "does not list dev-clean"),
    ],
)
def test_useless_list_of_checksums_is_refused(openslr, tmp_path, text, message):
    openslr.files["/12/md5sum.txt"] = text
    with pytest.raises(DownloadError, match=message):
        get(openslr, tmp_path, "dev-clean")
    assert archive_requests(openslr) == []


def test_second_download_into_the_same_folder_is_refused(openslr, tmp_path):
    with downloads._downloads_folder(tmp_path), pytest.raises(DownloadError, match="Another download into"):
        get(openslr, tmp_path, "dev-clean")


def test_root_that_cannot_be_written_is_named(openslr, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="Cannot write into the folder .*file"):
        get(openslr, tmp_path / "file", "dev-clean")


def test_progress_bars_are_plain_text(openslr, tmp_path, capsys):
    get(openslr, tmp_path, "dev-clean", progress=True)
    shown = capsys.readouterr().err
    assert shown.isascii() and "dev-clean.tar.gz" in shown and "100%" in shown
