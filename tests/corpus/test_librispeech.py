import dataclasses
import hashlib
import io
import tarfile
from types import SimpleNamespace

import numpy as np
import pooch
import pytest
import soundfile
from loopback import tar_bytes

from vuilab.corpus import download, librispeech
from vuilab.corpus.download import DownloadError
from vuilab.corpus.librispeech import fetch_librispeech
from vuilab.corpus.manifest import read_manifest


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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
        31: librispeech.MINI,
    }.items():
        sums = ""
        for number, name in enumerate(subsets):
            md5, content = subset_archive(name, str(1000 * resource + number))
            server.files[f"/{resource}/{name}.tar.gz"] = content
            subset = dataclasses.replace(librispeech.SUBSETS[name], archive_bytes=len(content))
            monkeypatch.setitem(librispeech.SUBSETS, name, subset)
            sums += f"{md5}  {'./' if number else ''}{name}.tar.gz\n"
        server.files[f"/{resource}/md5sum.txt"] = sums.encode()
    for module in (download, pooch.core):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: None))
    return server


def get(openslr, root, *subsets, **options):
    return fetch_librispeech(subsets, root, base_url=openslr.url, **({"progress": False, "timeout": 5} | options))


def archive_requests(openslr):
    return [path for path, _ in openslr.requests if path.endswith(".tar.gz")]


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
    (hidden / "dev-clean.extract" / "LibriSpeech" / "dev-clean").mkdir(parents=True)  # killed while extracting
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
        ("dev-clean", [("../evil", b"")], r"is damaged or dangerous \('../evil' would be extracted to"),
        ("another", [], r"does not hold a folder LibriSpeech/dev-clean"),
    ],
)
def test_archive_with_the_right_checksum_and_the_wrong_content_leaves_nothing(openslr, tmp_path, name, extra, message):
    md5, content = subset_archive(name, "1", extra)
    openslr.files["/12/dev-clean.tar.gz"] = content
    openslr.files["/12/md5sum.txt"] = f"{md5} *dev-clean.tar.gz\n".encode()
    with pytest.raises(DownloadError, match=message):
        get(openslr, tmp_path / "root", "dev-clean")
    assert visible(tmp_path / "root") == [] and visible(tmp_path) == ["root"]


def test_full_disk_while_extracting_keeps_the_archive_and_recovers(openslr, tmp_path, monkeypatch):
    def full(*_, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", full)
        with pytest.raises(ValueError, match="The disk is full"):
            get(openslr, tmp_path, "dev-clean")
    assert visible(tmp_path) == [".downloads"] and names(tmp_path / ".downloads") == ["dev-clean.tar.gz"]
    get(openslr, tmp_path, "dev-clean")
    assert len(archive_requests(openslr)) == 1
    assert visible(tmp_path) == ["librispeech"]


def test_too_little_space_is_refused_before_the_download(openslr, tmp_path, monkeypatch):
    size = len(openslr.files["/12/dev-clean.tar.gz"])
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * size))
    with pytest.raises(ValueError, match=r"Not enough space in .*: dev-clean needs .* GB are free"):
        get(openslr, tmp_path, "dev-clean")
    assert archive_requests(openslr) == []
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=int(2.1 * size)))
    get(openslr, tmp_path, "dev-clean")


def test_folder_in_the_way_is_not_overwritten(openslr, tmp_path):
    (tmp_path / "librispeech" / "dev-clean").mkdir(parents=True)
    with pytest.raises(ValueError, match="dev-clean exists, but was not made by this command"):
        get(openslr, tmp_path, "dev-clean")
    assert openslr.requests == []


@pytest.mark.parametrize("subsets", [["dev-clen"], []])
def test_unknown_subset_lists_the_known_ones(tmp_path, subsets):
    with pytest.raises(ValueError, match=r"Choose from: dev-clean .* train-other-500 mini"):
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
    with download.downloads_folder(tmp_path), pytest.raises(DownloadError, match="Another download into"):
        get(openslr, tmp_path, "dev-clean")


def test_root_that_cannot_be_written_is_named(openslr, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"Cannot write into the folder .*file"):
        get(openslr, tmp_path / "file", "dev-clean")


def test_progress_bars_are_plain_text(openslr, tmp_path, capsys):
    get(openslr, tmp_path, "dev-clean", progress=True)
    shown = capsys.readouterr().err
    assert shown.isascii() and "dev-clean.tar.gz" in shown and "100%" in shown
