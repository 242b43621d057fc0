"""Digests follow content, and files are read again only when something about them has changed."""

import hashlib
import os

import pytest

from cervix_jax.datasets import file_digests as module
from cervix_jax.datasets.file_digests import file_digests
from cervix_jax.images import files


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "files"
    made.mkdir()
    for name in "ab":
        (made / name).write_bytes(name.encode() * 100)
    return made


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are read."""
    names = []

    def read_bytes(path, inside):
        names.append(path.name)
        return files.read_bytes(path, inside=inside)

    monkeypatch.setattr(module, "read_bytes", read_bytes)
    return names


def test_each_file_is_read_once_until_it_changes(folder, tmp_path, read) -> None:
    cache = tmp_path / "root/digests.sqlite"
    expected = {name: hashlib.sha256(name.encode() * 100).hexdigest() for name in "ab"}
    assert file_digests(folder, "ab", cache) == expected
    assert file_digests(folder, "ab", cache) == expected
    assert read == ["a", "b"]
    (folder / "a").write_bytes(b"x" * 100)  # the same size
    os.utime(folder / "a", ns=(0, 1))
    assert file_digests(folder, "ab", cache)["a"] == hashlib.sha256(b"x" * 100).hexdigest()
    assert read == ["a", "b", "a"]


def test_two_swapped_files_of_one_size_and_time_are_seen(folder, tmp_path) -> None:
    cache = tmp_path / "digests.sqlite"
    for name in "ab":
        os.utime(folder / name, ns=(0, 7))
    before = file_digests(folder, "ab", cache)
    (folder / "a").rename(folder / "c")
    (folder / "b").rename(folder / "a")
    (folder / "c").rename(folder / "b")
    assert file_digests(folder, "ab", cache) == {"a": before["b"], "b": before["a"]}


def test_what_cannot_be_read_has_no_digest_and_without_a_cache_all_is_read(folder, tmp_path, read) -> None:
    (tmp_path / "blocked").touch()
    for _ in range(2):
        digests = file_digests(folder, ["a", "none"], tmp_path / "blocked/digests.sqlite")
        assert (len(digests["a"]), digests["none"]) == (64, "")
    assert read.count("a") == 2
    (tmp_path / "damaged").write_bytes(b"no database" * 99)
    assert len(file_digests(folder, "a", tmp_path / "damaged")["a"]) == 64
    file_digests(folder, "a", tmp_path / "kept")
    content = (tmp_path / "kept").read_bytes()
    (tmp_path / "kept").write_bytes(content.replace(str(folder).encode(), b"\xff" * len(str(folder))))
    assert len(file_digests(folder, "a", tmp_path / "kept")["a"]) == 64
