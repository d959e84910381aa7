import hashlib
import json
import os
import shutil

import pytest

from vuilab import contents
from vuilab.contents import hash_of_all, hashes_of, last_change


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    return paths


@pytest.fixture
def read(monkeypatch):
    """The files that are really read during a test."""
    found, original = [], contents._hash
    monkeypatch.setattr(contents, "_hash", lambda path: found.append(path) or original(path))
    return found


def test_the_hash_is_sha_256_and_files_are_read_once(files, tmp_path, read):
    table = tmp_path / "cache" / "table.json"
    first = hashes_of(files, table)
    assert first == {path: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files}
    assert hashes_of(files, table) == first and sorted(read) == files


@pytest.mark.parametrize("copied_back", [False, True])
def test_a_file_replaced_in_place_is_noticed_whatever_its_times(files, tmp_path, read, copied_back):
    """`cp --preserve` gives another file of the same size the old modification time."""
    table = tmp_path / "table.json"
    first, times = hashes_of(files, table), files[1].stat()
    files[1].write_bytes(b"x" * times.st_size)
    if copied_back:
        os.utime(files[1], ns=(times.st_atime_ns, times.st_mtime_ns))
    second = hashes_of(files, table)
    assert second[files[1]] == hashlib.sha256(b"x" * times.st_size).hexdigest()[:16]
    assert {path for path in files if first[path] != second[path]} == {files[1]} == set(read[3:])


def test_the_same_file_copied_back_is_the_same(files, tmp_path, read):
    table = tmp_path / "table.json"
    first = hashes_of(files, table)
    shutil.copy(files[0], tmp_path / "aside")
    files[0].unlink()
    shutil.copy(tmp_path / "aside", files[0])
    assert hashes_of(files, table) == first and read[3:] == [files[0]]
    hashes_of(files, table)
    assert len(read) == 4  # the new times stand in the table


def test_a_file_that_is_gone_counts_as_it_was(files, tmp_path):
    table = tmp_path / "table.json"
    first = hashes_of(files[:2], table)
    for path in files:
        path.unlink()
    assert hashes_of(files, table) == {**first, files[2]: None}
    assert hash_of_all(hashes_of(files, table).values()) is None
    assert hash_of_all(hashes_of(files[:2], table).values()) == hash_of_all(first.values())


def test_the_order_counts():
    assert hash_of_all(["a", "b"]) != hash_of_all(["b", "a"])


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"a": 1}', '{"a": [1, 2, 3]}', '{"a": [1, 2, 3, 4]}'])
def test_a_damaged_table_is_made_anew(files, tmp_path, damage):
    table = tmp_path / "table.json"
    first = hashes_of(files, table)
    table.write_text(damage)
    assert hashes_of(files, table) == first
    assert set(json.loads(table.read_text())) == {str(path) for path in files}


def test_where_nothing_can_be_written_files_are_read_each_time(files, tmp_path, read):
    (tmp_path / "blocked").write_text("a file where a folder is needed")
    for _ in range(2):
        assert None not in hashes_of(files, tmp_path / "blocked" / "table.json").values()
    assert len(read) == 6


def test_the_last_change_is_that_of_the_youngest_file(files):
    os.utime(files[2], (2_000_000_000, 2_000_000_000))
    assert last_change(files) == 2_000_000_000
    assert last_change([]) == 0 == last_change([files[0].with_name("gone")])
