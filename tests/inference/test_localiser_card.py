"""The card of a localiser says what was measured, and how the exported function is called."""

import json

import pytest

from cervix_jax.inference import localiser_card
from cervix_jax.training.localiser import Localiser

NAMES = ("mean_iou", "median_iou", "iou_above_0.5", "iou_above_0.7", "center_error", "confidence_error")
MEASURED = {
    "num_examples": 296,
    **{name: 0.1 * i for i, name in enumerate(NAMES)},
    "intervals": {name: [0.1 * i - 0.05, 0.1 * i + 0.05] for i, name in enumerate(NAMES)},
    "by_type": {"Type_1": 0.6},
}


@pytest.fixture
def card(localiser_run):
    return json.loads(json.dumps(localiser_card.describe(Localiser.restore(localiser_run), "finder", MEASURED)))


def test_it_says_what_was_measured_on_what(card) -> None:
    assert card["metrics"]["iou_above_0.7"] == {"value": pytest.approx(0.3), "interval": pytest.approx([0.25, 0.35])}
    assert card["data"]["name"] == "cervix/initial"
    page = localiser_card.render(card)
    assert "On 296 validation photographs of `cervix/initial` (fold 4 of 5)" in page
    assert "| iou_above_0.7 | 0.300 | 0.250 to 0.350 |" in page


def test_it_says_what_the_function_takes(card) -> None:
    assert card["input"]["image_size"] == [32, 24]
    assert "boxes = locate(weights, images)  # uint8 [b, 32, 24, 3]" in localiser_card.render(card)
