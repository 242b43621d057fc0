"""Features: extracted once per content, the same by any number of processes, and discarded when they are stored."""

import io
import select
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile

from cervix_jax.datasets import feature_cache
from cervix_jax.errors import UserError
from cervix_jax.images import features
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import find_photographs
from cervix_jax.images.geometry import CropResize


@pytest.fixture(scope="module")
def sources(manual_dir):
    return {path.relative_to(manual_dir).as_posix(): path for path in find_photographs(manual_dir)}


@pytest.fixture(scope="module")
def table(sources, tmp_path_factory):
    return feature_cache.extract_all(sources, tmp_path_factory.mktemp("cache") / "m.sqlite", processes=1)


def test_numbers_are_those_of_the_stored_picture(table, sources):
    assert table.names == tuple(sources)
    jpegs = list(table.jpegs([0, 7]))
    for i, jpeg in zip((0, 7), jpegs, strict=True):
        image = CropResize(features.FEATURE_SIZE)(read_photograph(jpeg))
        np.testing.assert_array_equal(table.histograms[i], features.colour_histograms(image))
        assert table.sharpness[i] == features.sharpness(image)
        assert tuple(table.original_size[i]) == read_photograph(sources[table.names[i]]).size[::-1]


def test_several_processes_extract_the_same(table, sources, tmp_path):
    assert len(sources) >= feature_cache.MIN_PARALLEL
    again = feature_cache.extract_all(sources, tmp_path / "m.sqlite", processes=2)
    assert again.names == table.names
    assert again.digests == table.digests
    np.testing.assert_array_equal(again.histograms, table.histograms)
    np.testing.assert_array_equal(again.signatures, table.signatures)
    assert list(again.jpegs([3])) == list(table.jpegs([3]))


def some(sources, count):
    return dict(list(sources.items())[:count])


def test_what_is_cached_is_not_extracted_again_whatever_it_is_called(sources, tmp_path, monkeypatch):
    cache = tmp_path / "m.sqlite"
    feature_cache.extract_all(some(sources, 9), cache)
    monkeypatch.setattr(feature_cache, "extract", lambda raw: pytest.fail("extracted again"))
    renamed = {f"moved/{name}": path.read_bytes() for name, path in some(sources, 9).items()}
    assert feature_cache.extract_all(renamed, cache).names == tuple(renamed)


def test_a_photograph_is_decoded_once(sources, monkeypatch):
    """Where it is stored as it is; another's JPEG is decoded too, since networks see its pixels."""
    decoded, load = [], ImageFile.ImageFile.load

    def counting(image):
        if image.tile:
            decoded.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counting)
    record = feature_cache.extract(next(iter(sources.values())).read_bytes())
    assert (decoded, record.original_size) == ([(240, 320)], (320, 240))
    camera = io.BytesIO()
    Image.open(io.BytesIO(record.jpeg)).resize((1440, 1920)).save(camera, "JPEG")
    decoded.clear()
    assert feature_cache.extract(camera.getvalue()).original_size == (1920, 1440)
    assert decoded == [(720, 960), (480, 640)]  # libjpeg skips the rest


def test_discarded_photographs_leave_neither_rows_nor_bytes(sources, tmp_path, table):
    cache = tmp_path / "m.sqlite"
    feature_cache.extract_all(some(sources, 9), cache)
    size = cache.stat().st_size
    feature_cache.discard(table.digests[:8], cache)
    assert cache.stat().st_size < size / 3
    with sqlite3.connect(cache) as database:
        assert database.execute("SELECT digest FROM measured").fetchall() == [(table.digests[8],)]


def test_photographs_that_another_build_discards_are_a_reason_to_start_again(sources, tmp_path):
    cache = tmp_path / "m.sqlite"
    two = feature_cache.extract_all(some(sources, 2), cache)
    feature_cache.discard(two.digests[:1], cache)
    with pytest.raises(UserError, match="rerun the same command"):
        list(two.jpegs([1, 0]))


def test_features_from_elsewhere_are_found(sources, table, tmp_path, monkeypatch):
    """As Beam's machines return them."""
    cache, raw = tmp_path / "m.sqlite", sources[table.names[0]].read_bytes()
    assert feature_cache.insert(iter([(table.digests[0], feature_cache.extract(raw))]), cache) == 1
    monkeypatch.setattr(feature_cache, "extract", lambda raw: pytest.fail("extracted again"))
    again = feature_cache.extract_all(some(sources, 1), cache)
    for name in ("original_size", "histograms", "sharpness", "signatures"):
        np.testing.assert_array_equal(getattr(again, name)[0], getattr(table, name)[0])
    assert list(again.jpegs([0])) == list(table.jpegs([0])) == [raw]


def test_numbers_of_another_version_are_not_taken(sources, tmp_path):
    cache = tmp_path / "m.sqlite"
    two = some(sources, 2)
    feature_cache.extract_all(two, cache)
    with sqlite3.connect(cache) as database:
        database.execute("UPDATE measured SET version = version - 1, sharpness = -1")
    assert (feature_cache.extract_all(two, cache).sharpness > 0).all()


@pytest.mark.parametrize("place", [0, 60, 4096, 8192])
def test_a_damaged_cache_is_begun_anew(sources, tmp_path, place, capsys):
    cache, two = tmp_path / "m.sqlite", some(sources, 2)
    before = feature_cache.extract_all(two, cache)
    content = bytearray(cache.read_bytes())
    content[place : place + 100] = b"\xff" * 100
    cache.write_bytes(content)
    again = feature_cache.extract_all(two, cache)
    np.testing.assert_array_equal(again.histograms, before.histograms)
    assert list(again.jpegs([0, 1])) == list(before.jpegs([0, 1]))


def test_a_cache_that_another_process_holds_is_not_removed(sources, tmp_path, monkeypatch):
    cache, connect = tmp_path / "m.sqlite", sqlite3.connect
    feature_cache.extract_all(some(sources, 1), cache)
    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, timeout=0))
    with connect(cache) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            feature_cache.extract_all(some(sources, 2), cache)
    assert cache.exists()


def test_processes_end_with_the_one_that_started_them(tmp_path):
    """It is killed, so that it cannot end them; the pipe is open as long as one of them lives."""
    with subprocess.Popen(
        [sys.executable, "-c", DYING, tmp_path / "m.sqlite"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout.readline() == "extracted\n"
        process.kill()
        readable, _, _ = select.select([process.stdout], [], [], 60)
        assert readable
        assert process.stdout.read() == ""


DYING = """
import pathlib, sys
from cervix_jax.datasets import feature_cache
sources = {str(i): b"no picture" for i in range(feature_cache.MIN_PARALLEL)}
insert, feature_cache._insert = feature_cache._insert, lambda *_: (print("extracted", flush=True), sys.stdin.read())
feature_cache.extract_all(sources, pathlib.Path(sys.argv[1]), processes=2)
"""


def test_what_cannot_be_read_has_a_reason_and_zeros(sources, tmp_path):
    good = next(iter(sources.values()))
    mixed = {"good": good, "empty": b"", "text": b"no picture", "gone": tmp_path / "gone.jpg", "caf\udce9": good}
    table = feature_cache.extract_all(mixed, tmp_path / "m.sqlite")
    assert table.reasons == (
        "",
        "empty file",
        "not a picture",
        "No such file or directory",
        "a name that is not UTF-8, which an id has to be",
    )
    assert not table.histograms[1:].any()
    assert table.histograms[0].any()


SCRIPT = """
import pathlib, sys
from cervix_jax.datasets import feature_cache
print("run")
sources = {str(i): b"no picture" for i in range(feature_cache.MIN_PARALLEL)}
print(len(feature_cache.extract_all(sources, pathlib.Path(sys.argv[1]), processes=2).names))
"""


@pytest.mark.parametrize("way", ["file", "standard input"])
def test_a_script_without_a_guard_is_run_once(tmp_path, way):
    """Processes that are spawned import the script that spawned them, unless kept from it."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script) if way == "file" else "-", tmp_path / "m.sqlite"]
    done = subprocess.run(command, input=SCRIPT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["run", "64"]
