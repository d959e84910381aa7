"""Files over HTTP from a server that misbehaves, archives that are damaged or dangerous, disks that are full."""

import hashlib
import io
import tarfile
from types import SimpleNamespace

import numpy as np
import pooch
import pytest
from loopback import tar_bytes

from vuilab.corpus import download as fetching
from vuilab.corpus.download import (
    DownloadError,
    download,
    downloads_folder,
    extracted,
    is_installed,
    mark_verified,
    require_space,
)

BODY = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()
QUICK = {"progress": False, "timeout": 5, "retries": 3}


@pytest.fixture
def server(server):
    server.files["/file.bin"] = BODY
    return server


def fetch(server, tmp_path, md5=MD5, **options):
    return download(f"{server.url}/file.bin", tmp_path / "file.bin", md5=md5, **(QUICK | options))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(fetching, "BACKOFF", 0.001)
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda seconds: None))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def check_done(tmp_path):
    assert (tmp_path / "file.bin").read_bytes() == BODY
    assert names(tmp_path) == ["file.bin"]


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
    assert [asked for _, asked in server.requests] == [None, "bytes=150000-", "bytes=225000-"]


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
    with pytest.raises(DownloadError, match=r"Gave up on .*file\.bin after 3 attempts .*continues after the 150,000"):
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
    with pytest.raises(DownloadError, match=r"'file.bin' is no http or https address"):
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
    assert server.requests == [("/file.bin", "bytes=1000-")]


@pytest.mark.parametrize("fault", [None, "silent 416"])
def test_part_that_was_complete_already_is_accepted(server, tmp_path, fault):
    (tmp_path / "file.bin.part").write_bytes(BODY)
    server.faults = [fault]
    fetch(server, tmp_path)
    check_done(tmp_path)


@pytest.mark.parametrize("part", [b"x" * 1000, BODY + b"more"], ids=["of something else", "longer than the file"])
def test_part_of_another_file_is_found_by_the_checksum(server, tmp_path, part):
    (tmp_path / "file.bin.part").write_bytes(part)
    fetch(server, tmp_path)
    check_done(tmp_path)
    assert [asked for _, asked in server.requests] == [f"bytes={len(part)}-", None]


def test_part_is_not_trusted_without_a_checksum(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    fetch(server, tmp_path, md5=None)
    check_done(tmp_path)


def test_wrong_piece_is_not_glued_on(server, tmp_path):
    server.faults = ["cut", "other piece"]
    fetch(server, tmp_path, md5=None)
    check_done(tmp_path)


@pytest.mark.parametrize("fault", ["wrong bytes", "says less"])
def test_wrong_checksum_is_tried_once_more_then_removed(server, tmp_path, fault):
    server.faults = [fault]
    fetch(server, tmp_path / "passing")
    check_done(tmp_path / "passing")
    server.faults = [fault, fault]
    with pytest.raises(
        DownloadError, match=rf"file\.bin: wrong checksum, twice\..*expected md5:{MD5} but got [0-9a-f]+"
    ):
        fetch(server, tmp_path / "lasting")
    assert names(tmp_path / "lasting") == []
    assert len(server.requests) == 4


def test_length_that_is_always_too_long_is_an_error_where_ranges_do_not_help(server, tmp_path):
    server.ranges = False
    server.faults = ["says more"] * 99
    with pytest.raises(DownloadError, match="Gave up"):
        fetch(server, tmp_path)


def test_verified_file_is_not_fetched_again_and_a_broken_one_is(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(BODY)
    fetch(server, tmp_path, md5=MD5.upper())
    assert server.requests == []
    (tmp_path / "file.bin").write_bytes(BODY[:-1])
    fetch(server, tmp_path)
    check_done(tmp_path)
    assert len(server.requests) == 1


def test_full_disk_is_named_and_the_part_continues_later(server, tmp_path, monkeypatch):
    written = []

    class FullDisk(io.FileIO):
        def write(self, chunk):
            if written:
                raise OSError(28, "No space left on device")
            written.append(chunk)
            return super().write(chunk)

    open_as_usual = fetching.Path.open

    def open_on_full_disk(path, mode="r", *args, **kwargs):
        return FullDisk(path, mode) if path.suffix == ".part" else open_as_usual(path, mode, *args, **kwargs)

    monkeypatch.setattr(fetching, "CHUNK_BYTES", 2**16)
    with monkeypatch.context() as patch:
        patch.setattr(fetching.Path, "open", open_on_full_disk)
        with pytest.raises(ValueError, match=r"The disk is full: .*Make room"):
            fetch(server, tmp_path)
    assert (tmp_path / "file.bin.part").read_bytes() == written[0]
    fetch(server, tmp_path)
    check_done(tmp_path)


def test_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"Cannot write into .*file"):
        download(f"{server.url}/file.bin", tmp_path / "file" / "file.bin", **QUICK)


# ---------------------------------------------------------------------------------------------- extraction


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


UNSAFE = {
    "parent": "../evil",
    "hidden parent": "good/../../evil",
    "symlink outside": special("link", tarfile.SYMTYPE, "/etc"),
    "symlink to the parent": special("link", tarfile.SYMTYPE, "../evil"),
    "hard link outside": special("link", tarfile.LNKTYPE, "../a.tar.gz"),
    "device": special("device", tarfile.CHRTYPE),
    "fifo": special("fifo", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("member", UNSAFE.values(), ids=UNSAFE)
def test_unsafe_members_are_refused_and_nothing_stays(tmp_path, member):
    (tmp_path / "a.tar.gz").write_bytes(tar_bytes([("good.txt", b"good"), (member, b"")]))
    message = r"a\.tar\.gz is damaged or dangerous \(.*Nothing was extracted"
    with pytest.raises(DownloadError, match=message), extracted(tmp_path / "a.tar.gz", "out", progress=False):
        pytest.fail("something was extracted")
    assert names(tmp_path) == []


def test_absolute_names_stay_inside(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_bytes([(f"{tmp_path}/evil", b"evil")], mode="w"))
    with extracted(tmp_path / "a.tar", "out", progress=False) as folder:
        assert names(tmp_path) == ["a.tar", "out.extract"] and list(folder.rglob("evil"))


def test_damaged_archives_are_named_and_nothing_stays(tmp_path):
    good = tar_bytes([("a", np.random.default_rng(0).bytes(100_000)), ("b", b"b")])
    for content in (good[:50_000], b"no archive", b""):
        (tmp_path / "a.tar.gz").write_bytes(content)
        message = r"a\.tar\.gz is damaged or dangerous"
        with pytest.raises(DownloadError, match=message), extracted(tmp_path / "a.tar.gz", "out", progress=False):
            pytest.fail("something was extracted")
        assert names(tmp_path) == []


def test_plain_archives_are_extracted(tmp_path):
    folder = special(".", tarfile.DIRTYPE)
    (tmp_path / "a.tar").write_bytes(tar_bytes([(folder, b""), ("./d/a.txt", b"a")], mode="w"))
    with extracted(tmp_path / "a.tar", "out", progress=False) as out:
        assert (out / "d" / "a.txt").read_bytes() == b"a"
    assert names(tmp_path) == []


# ------------------------------------------------------------------------------------------------- folders


def test_a_corpus_that_has_its_mark_is_installed_and_one_of_the_users_is_in_the_way(tmp_path, capsys):
    folder = tmp_path / "corpus"
    assert not is_installed(folder, "vui")
    folder.mkdir()
    with pytest.raises(ValueError, match=r"exists, but was not made by this command.*use it as it is: `vui`"):
        is_installed(folder, "vui")
    mark_verified(folder, "http://somewhere", MD5)
    assert is_installed(folder, "vui") and "verified, not fetched again" in capsys.readouterr().out


def test_space_is_that_of_everything_extracted_and_one_archive(tmp_path, monkeypatch):
    (tmp_path / "b.tar.gz.part").write_bytes(b"x" * 50)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    free = 2 * (100 + 300) + 300 - 50
    require_space(tmp_path, ["a", "b"], [100, 300], 2.0)
    free -= 1
    with pytest.raises(ValueError, match=r"Not enough space in .*: a b needs 0\.0 GB"):
        require_space(tmp_path, ["a", "b"], [100, 300], 2.0)
    require_space(tmp_path, [], [], 2.0)


def test_one_download_at_a_time(tmp_path):
    with (
        downloads_folder(tmp_path),
        pytest.raises(DownloadError, match="Another download into"),
        downloads_folder(tmp_path),
    ):
        pass
    with downloads_folder(tmp_path) as folder:
        assert folder.is_dir()
    assert names(tmp_path) in ([], [".downloads.lock"])
