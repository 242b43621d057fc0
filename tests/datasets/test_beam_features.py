"""A data set whose features Beam has extracted is that of one machine; skipped where Beam is not installed."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from cervix_jax.datasets import builder, feature_cache
from cervix_jax.datasets.dataset import extract_with_beam, load_dataset
from cervix_jax.datasets.pipeline import DatasetError
from cervix_jax.images import synthetic

COUNTS = {"train": 24, "additional": 12, "test": 3}
OPTIONS = ["--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=multi_threading"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """With a file that is no picture, an empty one, and one photograph twice."""
    folder = tmp_path_factory.mktemp("raw")
    synthetic.write_folder(folder, seed=1, counts=COUNTS)
    (folder / "train/Type_1/no picture.jpg").write_bytes(b"text")
    (folder / "train/Type_2/empty.jpg").touch()
    first = next((folder / "train/Type_3").glob("*.jpg"))
    (folder / "additional/Type_3/copy.jpg").write_bytes(first.read_bytes())
    Image.new("RGB", (40, 30), (200, 80, 90)).save(folder / "train/Type_1/flat.png")
    return folder


def test_examples_are_those_of_one_machine(raw, tiny_config, tmp_path, monkeypatch) -> None:
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (launch/beam.lock)")
    tiny_config.dataset.name, tiny_config.dataset.manual_dir = "cervix/cleaned", str(raw)
    tiny_config.dataset.data_dir = str(tmp_path / "one")
    one = load_dataset(tiny_config)
    tiny_config.dataset.data_dir = str(tmp_path / "two")
    extract_with_beam(tiny_config, OPTIONS)
    cache = builder.feature_cache_path(tmp_path / "two" / one.builder.data_path.relative_to(tmp_path / "one"))
    assert [path.name for path in (tmp_path / "two").iterdir()] == [cache.name]  # nothing is left beside it
    monkeypatch.setattr(feature_cache, "extract", lambda raw: pytest.fail("extracted again"))
    two = load_dataset(tiny_config)
    assert one.splits == two.splits
    assert dict(one.builder.info.metadata) == dict(two.builder.info.metadata)
    for split in one.builder.info.splits:
        for a, b in zip(one.builder.as_data_source(split), two.builder.as_data_source(split), strict=True):
            for name, value in a.items():
                np.testing.assert_array_equal(value, b[name])


def test_drawn_photographs_are_refused(tiny_config) -> None:
    tiny_config.dataset.name = "cervix/synthetic"
    with pytest.raises(DatasetError, match="draws them"):
        extract_with_beam(tiny_config, [])


def test_without_beam_the_message_says_where_its_lock_is(tiny_config, tmp_path, monkeypatch) -> None:
    tiny_config.dataset.data_dir = str(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DatasetError, match=r"launch/beam\.lock"):
        extract_with_beam(tiny_config, [])
