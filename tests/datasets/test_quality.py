"""The quality reference: ranks against a reference, and what it says of pictures that are spoilt in a known way."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.datasets.quality import REASONS, ImageFeatures, QualityReference, QualityReferenceError
from cervix_jax.images import synthetic
from cervix_jax.images.boxes import LocatedBox
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.near_duplicates import signature


@pytest.fixture(scope="module")
def data(manual_dir, data_dir):
    from tests.conftest import make_tiny_config

    return load_dataset(make_tiny_config(manual_dir, data_dir))


@pytest.fixture(scope="module")
def reference(data) -> QualityReference:
    parts = [data.examples(split) for split in ("train", "validation")]
    seen = np.stack([signature(part.image(i)) for part in parts for i in range(len(part))])
    return QualityReference.fit(data.manifest, data.assignment, seen)


@pytest.fixture
def photograph(manual_dir):
    return read_photograph(min((manual_dir / "train/Type_2").iterdir()))


SPOILT = {
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(8)),
    "too dark": lambda image: ImageEnhance.Brightness(image).enhance(0.15),
    "too bright": lambda image: Image.blend(image, Image.new("RGB", image.size, "white"), 0.85),
    "badly framed": lambda image: _in_the_dark(image),
    "not like the training pictures": lambda image: ImageOps.invert(image),
}


def _in_the_dark(image):
    canvas = Image.new("RGB", image.size)
    canvas.paste(image.resize((image.width // 2, image.height // 2)), (0, 0))
    return canvas


@pytest.mark.parametrize("reason", SPOILT)
def test_each_way_to_spoil_a_picture_is_named(reference, photograph, reason) -> None:
    name = {text: key for key, text in REASONS.items()}[reason]
    as_it_is, spoilt = (
        reference.assess(ImageFeatures.of(photograph)),
        reference.assess(ImageFeatures.of(SPOILT[reason](photograph))),
    )
    assert as_it_is.ranks[name] > 0.05
    assert spoilt.ranks[name] == pytest.approx(1 / 49)
    assert spoilt.values[name] < as_it_is.values[name]


def test_ranks_below_a_hundredth_are_reasons_to_take_it_again(reference, photograph) -> None:
    copies = {name: np.repeat(values, 4) for name, values in reference.values.items()}
    larger = QualityReference(reference.gaussian, copies, reference.seen)
    assert larger.assess(ImageFeatures.of(photograph)).retake == ""
    judged = larger.assess(ImageFeatures.of(SPOILT["blurred"](SPOILT["too dark"](photograph))))
    assert set(judged.retake.split(" | ")) >= {"blurred", "too dark"}
    assert judged.rank == pytest.approx(1 / 193)


def test_reference_photographs_have_even_ranks(reference, manual_dir) -> None:
    """Those of the training side rank as uniformly as their own order statistics, but for densities."""
    paths = sorted((manual_dir / "train").rglob("*.jpg"))
    ranks = np.array([reference.assess(ImageFeatures.of(read_photograph(path))).ranks["sharpness"] for path in paths])
    assert 0.4 < ranks.mean() < 0.6
    assert ranks.min() < 0.1
    assert ranks.max() > 0.95


def test_it_knows_what_was_trained_on(reference, manual_dir, photograph) -> None:
    blurred = photograph.filter(ImageFilter.GaussianBlur(2))
    pictures = [photograph, read_photograph(manual_dir / "test/0.jpg"), blurred]
    seen, groups = reference.has_seen(np.stack([signature(np.asarray(picture)) for picture in pictures]))
    assert seen.tolist() == [True, False, True]
    assert groups[0] == groups[2] != groups[1]
    assert len(reference.seen) == 60


@pytest.mark.parametrize(
    ("box", "confidence", "reason"),
    [
        ((0.3, 0.3, 0.6, 0.6), 0.1, "no cervix found"),
        ((0.48, 0.48, 0.5, 0.5), 0.7, "cervix too small"),
        ((0.5, 0.4, 1.0, 1.0), 0.7, "cervix cut off by the border"),
        ((0.02, 0.02, 0.25, 0.25), 0.7, "cervix far from the middle"),
    ],
)
def test_each_way_to_miss_the_cervix_is_named(data, reference, photograph, box, confidence, reason) -> None:
    corners = np.random.default_rng(0).uniform(0.25, 0.4, (150, 2))
    located = [LocatedBox((x, y, x + 0.3, y + 0.3), x + 0.3) for x, y in corners.tolist()]
    with_boxes = QualityReference.fit(data.manifest, data.assignment, reference.seen, located)
    features = ImageFeatures.of(photograph)
    assert with_boxes.assess(features, LocatedBox((0.3, 0.3, 0.6, 0.6), 0.6)).retake == ""
    assert with_boxes.assess(features, LocatedBox(box, confidence)).retake.split(" | ")[0] == reason
    assert with_boxes.assess(features).ranks.keys() == reference.assess(features).ranks.keys()  # not located


def test_it_comes_back_from_its_file(reference, tmp_path, photograph) -> None:
    reference.save(tmp_path / "quality.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["quality.npz"]
    back = QualityReference.load(tmp_path / "quality.npz")
    assert back.assess(ImageFeatures.of(photograph)) == reference.assess(ImageFeatures.of(photograph))
    np.testing.assert_array_equal(back.seen, reference.seen)
    assert QualityReference.load(tmp_path / "none.npz") is None


@pytest.mark.parametrize(
    "damage",
    [
        {"mean": np.full(456, np.nan)},
        {"variances": np.zeros(456)},
        {"axes": np.eye(3)},
        {"sharpness": np.zeros(0)},
        {"seen": np.zeros(9)},
        {"seen": np.array([{}])},  # a pickle
    ],
)
def test_a_file_of_arrays_that_no_reference_has_is_refused(reference, tmp_path, damage) -> None:
    path = tmp_path / "quality.npz"
    reference.save(path)
    with np.load(path) as arrays:
        np.savez(path, **dict(arrays) | damage)
    with pytest.raises(QualityReferenceError, match=r"quality\.npz is damaged; rerun the command"):
        QualityReference.load(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(QualityReferenceError, match=r"quality\.npz is damaged"):
        QualityReference.load(path)


def test_junk_ranks_below_photographs_of_a_cervix(reference) -> None:
    def density(kind: str, seed: int) -> list[float]:
        drawn = [synthetic.draw(seed, "additional", i, kind=kind) for i in range(12)]
        return [reference.assess(ImageFeatures.of(_coded(each.image))).values["log_density"] for each in drawn]

    assert np.median(density("junk", 5)) < np.median(density("clean", 5))


def _coded(image: np.ndarray) -> Image.Image:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=95)
    return read_photograph(out.getvalue())
