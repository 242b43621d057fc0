"""Whether explanations point at the transformation zone, depend on the weights, and survive another shot; as Markdown.

python -m tests.benchmarks.explanations RUN [--photographs 60]

RUN is a run trained on `cervix/synthetic`, whose drawings know their zones; photographs are drawn anew, of types 1 and
2 (the zone of type 3 is hardly visible).

Pointing game (Zhang et al. 2018): the strongest pixel hits if it lies within 15 / 320 of the height from the zone;
chance is the share of such pixels. Randomisation (Adebayo et al. 2018): rank correlation of a map with that of the same
network whose weights are redrawn, from the logits down. Repetition: the same of a photograph encoded again as JPEG of
quality 50, and of one 20 % darker.
"""

import argparse
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageEnhance
from scipy.ndimage import distance_transform_edt
from scipy.stats import spearmanr

from cervix_jax.explainers.methods import METHODS, Explanation, explain
from cervix_jax.images import synthetic
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor
from cervix_jax.training.initialisation import init_variables

SEED = 77  # of drawings that no run has seen
TOLERANCE = 15 / 320
LEVELS = ("logits", "the last stage", "the head")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--photographs", type=int, default=60)
    arguments = parser.parse_args()
    predictor = Predictor.restore([arguments.run])
    drawings = [synthetic.draw(SEED, "test", i, label=i % 2) for i in range(arguments.photographs)]
    photographs = [predictor.read(jpeg(Image.fromarray(drawing.image), 90)) for drawing in drawings]
    right = predictor.probabilities(photographs).argmax(axis=1) == [drawing.label for drawing in drawings]
    drawings = [drawing for drawing, keep in zip(drawings, right, strict=True) if keep]
    photographs = [photograph for photograph, keep in zip(photographs, right, strict=True) if keep]
    near = [distance_transform_edt(~d.zone) <= TOLERANCE * d.zone.shape[0] for d in drawings]
    print(f"{len(drawings)} of {arguments.photographs} drawings are called right; those are explained.")

    explanations = explain(predictor, photographs)
    classes = np.array([explanation.class_index for explanation in explanations])
    redrawn = [explain(randomised(predictor, level), photographs, classes=classes) for level in LEVELS]
    changed = [
        explain(predictor, [predictor.read(change(photograph)) for photograph in photographs], classes=classes)
        for change in (encoded_again, darker)
    ]
    chance = np.mean([mask.mean() for mask in near])
    print("\n| method | hits | chance | " + " | ".join(f"weights of {level} redrawn" for level in LEVELS), end="")
    print(" | encoded again | darker |")
    print("|" + "---|" * (5 + len(LEVELS)))
    for name, method in METHODS.items():
        hits = [mask[strongest(e.heat[name])] for e, mask in zip(explanations, near, strict=True)]
        cells = [f"{method.title}", f"{np.mean(hits):.0%}", f"{chance:.0%}"]
        cells += [f"{agreement(explanations, others, name):.2f}" for others in (*redrawn, *changed)]
        print("| " + " | ".join(cells) + " |")


def strongest(heat: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(heat.argmax(), heat.shape)))


def agreement(explanations: list[Explanation], others: list[Explanation], name: str) -> float:
    """Mean rank correlation over photographs, of maps shrunk to tens of pixels; constant maps count as 0."""
    values = []
    for pair in zip(explanations, others, strict=True):
        a, b = (np.asarray(Image.fromarray(e.heat[name]).resize((24, 32), Image.Resampling.BOX)) for e in pair)
        values.append(0.0 if a.std() == 0 or b.std() == 0 else spearmanr(a.ravel(), b.ravel()).statistic)
    return float(np.mean(values))


def randomised(predictor: Predictor, level: str) -> Predictor:
    """The predictor with new random weights from its logits down to a level; batch statistics are kept."""
    (member,) = predictor.members
    new = init_variables(member.model, tuple(member.config.dataset.image_size), SEED)["params"]["head"]
    last = max(name for name in new if name.startswith("stage")).split("_")[0]
    is_redrawn: dict[str, Callable[[str], bool]] = {
        "logits": lambda layer: layer == "logits",
        "the last stage": lambda layer: layer == "logits" or layer.startswith(last),
        "the head": lambda layer: True,
    }
    old = member.variables["params"]["head"]
    head = {layer: new[layer] if is_redrawn[level](layer) else old[layer] for layer in old}
    params = {**member.variables["params"], "head": head}
    variables: dict[str, Any] = jax.device_put({**member.variables, "params": params})
    return dataclasses.replace(predictor, members=(dataclasses.replace(member, variables=variables),))


def jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def encoded_again(photograph: Photograph) -> bytes:
    return jpeg(Image.open(io.BytesIO(photograph.jpeg)), 50)


def darker(photograph: Photograph) -> bytes:
    return jpeg(ImageEnhance.Brightness(Image.open(io.BytesIO(photograph.jpeg))).enhance(0.8), 95)


if __name__ == "__main__":
    main()
