import hashlib
import io

import numpy as np
import pytest

from vuilab.corpus import download as fetching
from vuilab.corpus.download import DownloadError, download

BODY = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()
QUICK = {"progress": False, "backoff": 0.001, "timeout": 5, "retries": 3}


@pytest.fixture
def server(server):
    server.files["/file.bin"] = BODY
    return server


def fetch(server, tmp_path, md5=MD5, **options):
    return download(f"{server.url}/file.bin", tmp_path / "file.bin", md5=md5, **(QUICK | options))


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
    assert server.requests == [("/file.bin", "bytes=1000-", None)]


@pytest.mark.parametrize("fault", [None, "silent 416"])
def test_part_that_was_complete_already_is_accepted(server, tmp_path, fault):
    (tmp_path / "file.bin.part").write_bytes(BODY)
    server.faults = [fault]
    fetch(server, tmp_path)
    check_done(tmp_path)


def test_part_longer_than_the_file_is_thrown_away(server, tmp_path, capsys):
    (tmp_path / "file.bin.part").write_bytes(BODY + b"more")
    fetch(server, tmp_path)
    check_done(tmp_path)
    assert "wrong checksum" not in capsys.readouterr().out  # found by its length already


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
    with pytest.raises(DownloadError, match=rf"wrong checksum. Expected MD5 {MD5}, received [0-9a-f]+ .*was removed"):
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
