"""Robustness: whether a prediction survives what changes between two shots of the same cervix.

Each photograph is encoded again, cropped a little and lit differently, and its prediction is compared with that of the
photograph as it is. What matters clinically is agreement of the type; the distance of the probabilities is finer.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageEnhance
from tqdm import tqdm

from cervix_jax.images.decode import read_photograph
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor

Change = Callable[[Image.Image], Image.Image]
STORED_QUALITY = 95  # JPEG quality of what data sets store


def _crop(left: float, top: float, right: float, bottom: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))

    return change


def _tint(red: float, blue: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        scaled = np.asarray(image) * np.array([red, 1.0, blue])
        return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))

    return change


CHANGES: Mapping[str, tuple[Change, int]] = {  # and the quality of the JPEG that it is encoded as
    "coded again, quality 95": (lambda image: image, STORED_QUALITY),
    "coded again, quality 50": (lambda image: image, 50),
    "cropped to 95 %, lower right": (_crop(0.05, 0.05, 1.0, 1.0), STORED_QUALITY),
    "cropped to 95 %, upper left": (_crop(0.0, 0.0, 0.95, 0.95), STORED_QUALITY),
    "20 % darker": (lambda image: ImageEnhance.Brightness(image).enhance(0.8), STORED_QUALITY),
    "20 % brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.2), STORED_QUALITY),
    "warmer light": (_tint(1.1, 0.9), STORED_QUALITY),
    "colder light": (_tint(0.9, 1.1), STORED_QUALITY),
}


def robustness(
    parts: Sequence[tuple[Predictor, Sequence[Photograph]]],
    probabilities: Float[np.ndarray, "n k"],
    batch_size: int = 32,
) -> dict[str, Any]:
    """Agreement under every change of CHANGES.

    Args:
      parts: n photographs, in parts, each with the predictor that judges it; see `LabelledPhotographs.parts`.
      probabilities: by these predictors, of the photographs as they are.
      batch_size: photographs held in memory at a time.

    Returns:
      `agreement`: mean fraction of photographs that keep their type; `all_agree`: fraction that keep it under every
      change; `changes`: for each, `agreement` and `distance`, the mean total variation between the distributions, 0 to
      1.
    """
    types, changes, unchanged = probabilities.argmax(axis=1), {}, np.ones(len(probabilities), bool)
    for name, (change, quality) in tqdm(CHANGES.items(), unit="change", disable=None):
        batches = []
        for predictor, photographs in parts:
            for start in range(0, len(photographs), batch_size):
                batch = photographs[start : start + batch_size]
                changed = [predictor.read(_changed(photograph.jpeg, change, quality)) for photograph in batch]
                batches.append(predictor.probabilities(changed, batch_size))
        changed_probabilities = np.concatenate(batches)
        same = changed_probabilities.argmax(axis=1) == types
        distance = 0.5 * np.abs(changed_probabilities - probabilities).sum(axis=1)
        changes[name] = {"agreement": float(same.mean()), "distance": float(distance.mean())}
        unchanged &= same
    agreement = float(np.mean([row["agreement"] for row in changes.values()]))
    return {"agreement": agreement, "all_agree": float(unchanged.mean()), "changes": changes}


def _changed(jpeg: bytes, change: Change, quality: int) -> bytes:
    out = io.BytesIO()
    change(read_photograph(jpeg)).save(out, "JPEG", quality=quality)
    return out.getvalue()
