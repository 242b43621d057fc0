"""Synthetic photographs: reproducible, and laid out like Kaggle's folders."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cervix_jax.datasets.annotations import read_boxes
from cervix_jax.images import synthetic

SMALL = (96, 72)


def same(left: synthetic.SyntheticPhotograph, right: synthetic.SyntheticPhotograph) -> bool:
    attributes = [
        (photograph.name, photograph.subset, photograph.label, photograph.kind) for photograph in (left, right)
    ]
    return (
        attributes[0] == attributes[1]
        and np.array_equal(left.image, right.image)
        and np.array_equal(left.zone, right.zone)
        and left.box == right.box
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), subset=st.sampled_from(synthetic.SUBSETS), index=st.integers(0, 10**6))
def test_draw_is_a_pure_function_of_its_arguments(seed: int, subset: str, index: int) -> None:
    first = synthetic.draw(seed, subset, index, size=SMALL)
    other = synthetic.draw(seed, subset, index + 1, size=SMALL)
    assert same(first, synthetic.draw(seed, subset, index, size=SMALL))
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.image, synthetic.draw(seed + 1, subset, index, size=SMALL).image)


def test_photographs_do_not_depend_on_their_order() -> None:
    drawn = list(synthetic.photographs(4, counts={"test": 3, "train": 5}))
    assert [photograph.subset for photograph in drawn] == ["test"] * 3 + ["train"] * 5
    assert same(drawn[0], synthetic.draw(4, "test", 0))
    assert same(drawn[-1], synthetic.draw(4, "train", 4))


def test_parts_do_not_repeat_each_other() -> None:
    images = [synthetic.draw(0, subset, 0, label=1, kind="clean", size=SMALL).image for subset in synthetic.SUBSETS]
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize("subset", synthetic.SUBSETS)
def test_class_shares_hold_even_for_few_photographs(subset: str) -> None:
    for count in (60, 240):
        labels = [synthetic.draw(0, subset, index, kind="junk", size=(8, 8)).label for index in range(count)]
        shares = np.bincount(labels, minlength=3) / count
        np.testing.assert_allclose(shares, synthetic.CLASS_SHARES, atol=0.03)


def test_only_the_additional_part_holds_other_kinds() -> None:
    kinds = [synthetic.draw(0, "additional", index, size=SMALL).kind for index in range(100)]
    shares = [kinds.count(kind) / len(kinds) for kind in synthetic.KINDS]
    np.testing.assert_allclose(shares, synthetic.KIND_SHARES, atol=0.04)
    for subset in ("train", "test"):
        assert all(synthetic.draw(0, subset, index, size=SMALL).kind == "clean" for index in range(20))


@pytest.mark.parametrize("size", [(320, 240), SMALL, (100, 131)])
def test_image_and_zone_have_the_asked_size(size: tuple[int, int]) -> None:
    photograph = synthetic.draw(0, "train", 0, size=size)
    assert photograph.image.shape == (*size, 3)
    assert photograph.image.dtype == np.uint8
    assert photograph.zone.shape == size
    assert photograph.zone.dtype == np.bool_


def test_write_folder_lays_files_out_like_kaggle(tmp_path: Path) -> None:
    counts = {"train": 6, "additional": 8, "test": 4}
    synthetic.write_folder(tmp_path / "raw", seed=7, counts=counts)
    drawn = {photograph.name: photograph for photograph in synthetic.photographs(7, counts=counts)}
    written = {path.relative_to(tmp_path / "raw").as_posix(): path for path in (tmp_path / "raw").rglob("*.jpg")}
    assert written.keys() == drawn.keys()
    assert sorted(name for name in drawn if name.startswith("test")) == [f"test/{n}.jpg" for n in range(4)]
    for name, photograph in drawn.items():
        assert name.startswith("test/") or name.split("/")[1] == f"Type_{photograph.label + 1}"
        with Image.open(written[name]) as image:
            assert image.format == "JPEG"
            error = np.asarray(image, np.float32) - photograph.image
        assert np.abs(error).mean() < 8
    lines = (tmp_path / "raw" / "test_labels.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["image_name,label", *(f"{n}.jpg,{drawn[f'test/{n}.jpg'].label}" for n in range(4))]
    boxes, _ = read_boxes(tmp_path / "raw", list(drawn))
    assert {name: pytest.approx(boxes[name][""], abs=1e-4) for name in boxes} == {
        name: photograph.box for name, photograph in drawn.items() if photograph.box and photograph.subset != "test"
    }


def test_write_folder_makes_every_type_folder_even_if_empty(tmp_path: Path) -> None:
    synthetic.write_folder(tmp_path, counts={"train": 1})
    for name in ("train/Type_1", "train/Type_2", "train/Type_3", "additional/Type_3", "test"):
        assert (tmp_path / name).is_dir()
