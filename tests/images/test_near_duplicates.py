"""Near-duplicates: every change that a copy may go through is found, and nothing else is."""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from cervix_jax.images import synthetic
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import UnreadableError, find_photographs
from cervix_jax.images.geometry import CropResize
from cervix_jax.images.near_duplicates import SIGNATURE, groups, signature

NUM_DRAWN = 12
SHARED = Path(os.environ.get("CERVIX_JAX_SHARED", Path(__file__).parents[2].parent / "shared"))
KAGGLE = SHARED / "data" / "kaggle"


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def crop(picture: Image.Image, side: float, corner: float = 0.5) -> Image.Image:
    width, height = picture.size
    left, top = width * (1 - side) * corner, height * (1 - side) * corner
    return picture.resize(picture.size, box=(left, top, left + width * side, top + height * side))


CHANGES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "half size": lambda picture: picture.resize((120, 160)),
    "square": lambda picture: picture.resize((256, 256)),
    "quality 30": lambda picture: jpeg(picture, 30),
    "quality 95": lambda picture: jpeg(picture, 95),
    "crop to 95 %": lambda picture: crop(picture, 0.95),
    "corner crop to 95 %": lambda picture: crop(picture, 0.95, 0.0),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.7),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "blur": lambda picture: picture.filter(ImageFilter.GaussianBlur(5)),
    "several": lambda picture: jpeg(crop(picture.filter(ImageFilter.GaussianBlur(1.5)), 0.95).resize((180, 240)), 50),
}


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    return [synthetic.draw(5, "train", index).image for index in range(NUM_DRAWN)]


@pytest.fixture(scope="module")
def table(drawn: list[np.ndarray]) -> np.ndarray:
    """The drawings, then the drawings after the first change, ..."""
    changed = [np.asarray(change(Image.fromarray(image))) for change in CHANGES.values() for image in drawn]
    return np.stack([signature(image) for image in [*drawn, *changed]])


@pytest.fixture(scope="module")
def numbers(table: np.ndarray) -> np.ndarray:
    return groups(table)


def partition(numbers: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(numbers == number).tolist()) for number in np.unique(numbers)}


def noise(seed: int, level: int, spread: int = 3) -> np.ndarray:
    """A uniform picture with the noise of a sensor."""
    values = level + np.random.default_rng(seed).integers(-spread, spread + 1, (320, 240, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", CHANGES)
def test_recall_of_each_change(numbers: np.ndarray, change: str) -> None:
    start = NUM_DRAWN * (1 + list(CHANGES).index(change))
    grouped = numbers[start : start + NUM_DRAWN] == numbers[:NUM_DRAWN]
    assert grouped.mean() >= 0.95, f"lost {np.flatnonzero(~grouped)}"  # measured: 1.0 of 60 drawings, 200 photographs


def test_precision_of_pairs(numbers: np.ndarray) -> None:
    origin = np.arange(len(numbers)) % NUM_DRAWN
    first, second = np.triu_indices(len(numbers), 1)
    together = numbers[first] == numbers[second]
    assert (origin[first] == origin[second])[together].mean() >= 0.999  # measured: 1.0


def test_number_is_first_index_of_group(numbers: np.ndarray) -> None:
    assert numbers.dtype == np.int64
    for members in partition(numbers):
        assert set(numbers[list(members)]) == {min(members)}


def test_order_does_not_matter(table: np.ndarray) -> None:
    some = table[: 4 * NUM_DRAWN]
    order = np.random.default_rng(0).permutation(len(some))
    shuffled = partition(groups(some[order]))
    assert {frozenset(order[list(members)].tolist()) for members in shuffled} == partition(groups(some))


def test_second_shot_of_same_scene(drawn: list[np.ndarray]) -> None:
    """The camera moved and zoomed a little, and glare came or went."""
    shots = []
    for image in drawn:
        shot = Image.fromarray(image).crop((16, 20, 232, 308)).resize((240, 320))
        shot.paste((255, 255, 255), (100, 40, 130, 60))
        shots.append(np.asarray(shot))
    numbers = groups(np.stack([signature(image) for image in [*drawn, *shots]]))
    assert (numbers[NUM_DRAWN:] == numbers[:NUM_DRAWN]).mean() >= 0.9
    assert len(set(numbers[:NUM_DRAWN])) == NUM_DRAWN


def test_pictures_without_contrast_stay_apart() -> None:
    black, grey = np.zeros((320, 240, 3), np.uint8), np.full((320, 240, 3), 128, np.uint8)
    flat = [black, grey, *(noise(seed, level) for seed, level in enumerate((4, 4, 4, 12, 12, 128, 128, 250, 250)))]
    numbers = groups(np.stack([signature(image) for image in flat]))
    assert numbers.tolist() == list(range(len(flat)))


def test_noise_of_jpeg_is_no_scene() -> None:
    flat = [np.asarray(jpeg(Image.fromarray(noise(seed, 90, 8)), quality)) for seed in range(6) for quality in (30, 60)]
    numbers = groups(np.stack([signature(image) for image in flat]))
    # Two qualities of one picture may match, pictures may not.
    assert len(set(numbers[::2])) == 6


def test_same_pixels_match_even_without_contrast(drawn: list[np.ndarray]) -> None:
    dark = noise(0, 5)
    black = np.zeros((320, 240, 3), np.uint8)
    images = [dark, drawn[0], black, dark.copy(), black.copy(), drawn[0].copy(), black.copy()]
    assert groups(np.stack([signature(image) for image in images])).tolist() == [0, 1, 2, 0, 2, 1, 2]


def test_round_dark_surround_is_no_scene(drawn: list[np.ndarray]) -> None:
    """Photographs through a lens tube share their rim."""
    rows, columns = np.ogrid[-160:160, -120:120]
    tube = (rows**2 + columns**2 < 112**2)[..., None]
    numbers = groups(np.stack([signature(np.where(tube, image, 2).astype(np.uint8)) for image in drawn]))
    assert len(set(numbers)) == NUM_DRAWN


def test_chain_of_moving_windows_does_not_make_one_group() -> None:
    """Each picture overlaps its neighbours, the first and the last have nothing in common."""
    scene = Image.fromarray(np.random.default_rng(3).integers(0, 256, (16, 36, 3), np.uint8)).resize((720, 320))
    chain = np.stack([signature(np.asarray(scene.crop((left, 0, left + 240, 320)))) for left in range(0, 480, 12)])
    assert all(groups(chain[start : start + 2])[1] == 0 for start in range(len(chain) - 1))
    assert groups(chain[[0, -1]])[1] == 1
    assert np.bincount(groups(chain)).max() <= 12  # a picture's width is 20 steps; single linkage joins all 40


def test_none_and_one(drawn: list[np.ndarray]) -> None:
    assert groups(np.empty(0, SIGNATURE)).shape == (0,)
    assert groups(signature(drawn[0])[None]).tolist() == [0]


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (701, 33), (2000, 1500)])
def test_odd_sizes(drawn: list[np.ndarray], shape: tuple[int, int]) -> None:
    odd = np.asarray(Image.fromarray(drawn[0]).resize(shape[::-1]))
    numbers = groups(np.stack([signature(odd), signature(drawn[1]), signature(drawn[2])]))
    assert numbers.tolist() == [0, 1, 2]


def test_table_is_a_plain_array(table: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", table, allow_pickle=False)
    np.testing.assert_array_equal(np.load(tmp_path / "table.npy", allow_pickle=False), table)
    assert table.dtype == SIGNATURE
    assert table.itemsize < 4096


@pytest.mark.skipif(not KAGGLE.is_dir(), reason="the real photographs (shared/data/kaggle) are not at hand")
def test_blurred_copies_of_real_photographs() -> None:
    """All blurred copies are with the original they are most alike to, and no unrelated pictures are together."""
    blurred = sorted(KAGGLE.glob("additional/*/blur_*"))
    # The copies were made of Type_2; the other types are there to be confused with.
    originals = [path for part in (1, 2, 3) for path in find_photographs(KAGGLE / f"train/Type_{part}")[:80]]
    originals += [p for p in find_photographs(KAGGLE / "train/Type_2") if p not in originals]
    pictures = []
    for path in [*originals, *blurred]:
        try:
            pictures.append(CropResize((320, 240))(read_photograph(path, (320, 240))))
        except UnreadableError:
            pytest.fail(f"cannot read {path.name}")
    table = np.stack([signature(picture) for picture in pictures])
    thumbnails = table["luma"].reshape(len(table), -1).astype(np.float32)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails /= np.linalg.norm(thumbnails, axis=1, keepdims=True)
    likeness = thumbnails[len(originals) :] @ thumbnails[: len(originals)].T
    numbers = groups(table)
    assert len(blurred) == 12
    assert likeness.max(axis=1).min() > 0.97  # the reference is beyond doubt: the next best are below 0.93
    np.testing.assert_array_equal(numbers[len(originals) :], numbers[likeness.argmax(axis=1)])
    assert len(set(numbers)) >= len(originals) - 2  # one real pair of shots is known
