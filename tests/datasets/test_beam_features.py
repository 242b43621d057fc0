"""A data set whose photographs Beam has measured is that of one machine; skipped where Beam is not installed."""

import io
import sqlite3

import numpy as np
import pytest
from PIL import Image

from cervix_jax.datasets import builder, feature_cache, pipeline
from cervix_jax.datasets.cleaning import Gaussian
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


def test_examples_and_sums_are_those_of_one_machine(raw, tiny_config, tmp_path) -> None:
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (launch/beam.lock)")
    from cervix_jax.datasets import beam_features

    tiny_config.dataset.name, tiny_config.dataset.manual_dir = "cervix/cleaned", str(raw)
    tiny_config.dataset.data_dir = str(tmp_path / "one")
    one = pipeline.load_dataset(tiny_config)
    sources = {name: raw / name for name in builder.scan(raw, additional=True)}
    cache = tmp_path / "two" / "cervix_measurements.sqlite"
    moments = beam_features.measure(sources, cache, OPTIONS, inside=raw)
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]  # nothing is left beside it

    def forbidden(_: bytes):
        raise AssertionError("measured again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_cache, "measure", forbidden)
        tiny_config.dataset.data_dir = str(tmp_path / "two")
        two = pipeline.load_dataset(tiny_config)
    assert one.splits == two.splits
    assert dict(one.builder.info.metadata) == dict(two.builder.info.metadata)
    for split in one.builder.info.splits:
        for a, b in zip(one.builder.as_data_source(split), two.builder.as_data_source(split), strict=True):
            for name, value in a.items():
                np.testing.assert_array_equal(value, b[name])

    for part, source in builder.SOURCES.items():
        rows = [i for i, s in enumerate(one.manifest.source) if s == source]
        assert moments[part].count == len(rows)
        histograms = one.manifest.histograms[rows].astype(np.float64)
        np.testing.assert_allclose(moments[part].mean, histograms.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(moments[part].covariance, np.cov(histograms.T, bias=True), atol=1e-12)
    initial = one.manifest.histograms[[s == "initial" for s in one.manifest.source]]
    np.testing.assert_allclose(
        Gaussian.from_moments(moments["train"]).log_density(initial), Gaussian.fit(initial).log_density(initial)
    )


def test_results_from_elsewhere_are_found(tmp_path) -> None:
    """What Beam's machines return is kept by digest, and not measured again."""
    measured = feature_cache.measure(synthetic_jpeg())
    cache = tmp_path / "cache.sqlite"
    assert feature_cache.keep(iter([("a digest", measured)]), cache) == 1
    with sqlite3.connect(cache) as database:
        row = database.execute(
            "SELECT digest, reason, jpeg, height, width, histograms, sharpness, signature FROM measured"
        )
        found = row.fetchone()
    assert found == (
        "a digest",
        "",
        measured.jpeg,
        *measured.original_size,
        measured.histograms,
        measured.sharpness,
        measured.signature,
    )


def synthetic_jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(synthetic.draw(0, "train", 0).image).save(out, "JPEG")
    return out.getvalue()


def test_drawn_photographs_are_not_measured_with_beam(tiny_config) -> None:
    tiny_config.dataset.name = "cervix/synthetic"
    with pytest.raises(DatasetError, match="draws them"):
        pipeline.measure_with_beam(tiny_config, [])


def test_without_beam_the_message_says_where_its_lock_is(tiny_config, tmp_path, monkeypatch) -> None:
    tiny_config.dataset.data_dir = str(tmp_path)
    monkeypatch.setattr(pipeline.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DatasetError, match=r"launch/beam\.lock"):
        pipeline.measure_with_beam(tiny_config, [])
