"""Measuring: once a content, the same by any number of processes, and bounded by what is in the cache."""

import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from cervix_jax.datasets import feature_cache
from cervix_jax.images import features
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import find_photographs
from cervix_jax.images.geometry import CropResize


@pytest.fixture(scope="module")
def sources(manual_dir):
    return {path.relative_to(manual_dir).as_posix(): path for path in find_photographs(manual_dir / "train")}


@pytest.fixture(scope="module")
def measured(sources, tmp_path_factory):
    return feature_cache.extract_all(sources, tmp_path_factory.mktemp("cache") / "m.sqlite", processes=1)


def test_numbers_are_those_of_the_stored_picture(measured, sources):
    assert measured.names == tuple(sources)
    jpegs = list(measured.jpegs([0, 7]))
    for i, jpeg in zip((0, 7), jpegs, strict=True):
        image = CropResize(features.FEATURE_SIZE)(read_photograph(jpeg))
        np.testing.assert_array_equal(measured.histograms[i], features.colour_histograms(image))
        assert measured.sharpness[i] == features.sharpness(image)
        assert tuple(measured.original_size[i]) == read_photograph(sources[measured.names[i]]).size[::-1]


def test_several_processes_find_the_same(measured, sources, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_FEW", 2)
    again = feature_cache.extract_all(sources, tmp_path / "m.sqlite", processes=2)
    assert again.names == measured.names
    assert again.digests == measured.digests
    np.testing.assert_array_equal(again.histograms, measured.histograms)
    np.testing.assert_array_equal(again.signatures, measured.signatures)
    assert list(again.jpegs([3])) == list(measured.jpegs([3]))


def test_what_is_known_is_not_measured_again_whatever_it_is_called(sources, tmp_path, monkeypatch):
    cache = tmp_path / "m.sqlite"
    feature_cache.extract_all(sources, cache)
    monkeypatch.setattr(feature_cache, "measure", lambda raw: pytest.fail("measured again"))
    renamed = {f"moved/{name}": path.read_bytes() for name, path in sources.items()}
    assert feature_cache.extract_all(renamed, cache).names == tuple(renamed)


def test_numbers_of_another_version_are_not_taken(sources, tmp_path):
    cache = tmp_path / "m.sqlite"
    some = dict(list(sources.items())[:2])
    feature_cache.extract_all(some, cache)
    with sqlite3.connect(cache) as database:
        database.execute("UPDATE measured SET version = version - 1, sharpness = -1")
    assert (feature_cache.extract_all(some, cache).sharpness > 0).all()


def test_what_cannot_be_read_has_a_reason_and_zeros(sources, tmp_path):
    good = next(iter(sources.values()))
    mixed = {"good": good, "empty": b"", "text": b"no picture", "gone": tmp_path / "gone.jpg", "caf\udce9": good}
    found = feature_cache.extract_all(mixed, tmp_path / "m.sqlite")
    assert found.reasons == (
        "",
        "empty file",
        "not a picture",
        "No such file or directory",
        "a name that is not UTF-8, which an id has to be",
    )
    assert not found.histograms[1:].any()
    assert found.histograms[0].any()


SCRIPT = """
import pathlib, sys
from cervix_jax.data import measuring
print("run")
feature_cache._FEW = 2
paths = sorted(pathlib.Path(sys.argv[1]).rglob("*.jpg"))[:6]
print(len(feature_cache.extract_all({path.name: path for path in paths}, pathlib.Path(sys.argv[2]), processes=2).names))
"""


@pytest.mark.parametrize("way", ["file", "standard input"])
def test_a_script_without_a_guard_is_run_once(manual_dir, tmp_path, way):
    """Processes that are spawned import the script that spawned them, unless kept from it."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [
        sys.executable,
        str(script) if way == "file" else "-",
        manual_dir / "train/Type_2",
        tmp_path / "m.sqlite",
    ]
    done = subprocess.run(command, input=SCRIPT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["run", "6"]
