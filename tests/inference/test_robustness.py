"""Agreement under changes, by predictors whose answer to each change is known."""

import numpy as np
import pytest

from cervix_jax.images import synthetic
from cervix_jax.inference.robustness import CHANGES, robustness
from tests.inference.stub_predictor import StubPredictor


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    synthetic.write_folder(folder, seed=8, counts={"train": 0, "additional": 0, "test": 5})
    return [path.read_bytes() for path in sorted((folder / "test").iterdir())]


def certain(type_index: int) -> np.ndarray:
    return np.eye(3)[type_index]


def measure(predictor, jpegs):
    photographs = [predictor.read(jpeg) for jpeg in jpegs]
    return robustness([(predictor, photographs)], predictor.probabilities(photographs), batch_size=2)


def test_a_predictor_that_looks_at_nothing_agrees_with_itself(jpegs) -> None:
    found = measure(StubPredictor(lambda image: np.array([0.2, 0.5, 0.3])), jpegs)
    assert found["agreement"] == found["all_agree"] == 1
    assert set(found["changes"]) == set(CHANGES)
    assert all(row == {"agreement": 1, "distance": 0} for row in found["changes"].values())


def test_a_predictor_that_looks_at_light_is_found_out_by_light_alone(jpegs) -> None:
    levels = [StubPredictor(certain).read(jpeg).images[0].mean() for jpeg in jpegs]
    low, high = 0.9 * min(levels), 1.1 * max(levels)

    def by_level(image):
        return certain(0 if image.mean() < low else 2 if image.mean() > high else 1)

    photographs = [jpegs[int(np.argmin(levels))]]
    found = measure(StubPredictor(by_level), photographs)
    assert found["changes"]["20 % darker"] == {"agreement": 0, "distance": 1}
    for name in ("coded again, quality 95", "coded again, quality 50", "warmer light", "colder light"):
        assert found["changes"][name]["agreement"] == 1
    assert found["all_agree"] == 0


def test_a_predictor_that_looks_at_red_against_blue_is_found_out_by_the_colour_of_light(jpegs) -> None:
    def ratio(image):
        return image[..., 0].mean() / image[..., 2].mean()

    usual = ratio(StubPredictor(certain).read(jpegs[0]).images[0])
    found = measure(StubPredictor(lambda image: certain(int(ratio(image) > 1.1 * usual))), jpegs[:1])
    assert found["changes"]["warmer light"]["agreement"] == 0
    assert found["changes"]["colder light"]["agreement"] == found["changes"]["20 % darker"]["agreement"] == 1
