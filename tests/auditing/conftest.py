"""A folder in which there is one of everything that an audit reports."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cervix_jax.auditing import findings
from cervix_jax.images import synthetic


def save(path, image):
    Image.fromarray(image).save(path, quality=95)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Synthetic photographs, and one of each thing that an audit should find."""
    folder = tmp_path_factory.mktemp("audited <folder>")
    synthetic.write_folder(folder, seed=11, counts={"train": 36, "additional": 12, "test": 4})
    train, additional = folder / "train", folder / "additional"
    (train / "Type_1/empty.jpg").write_bytes(b"")
    original = min((train / "Type_2").iterdir())
    shutil.copy(original, train / "Type_3/conflict.jpg")
    with Image.open(original) as image:
        image.resize((180, 240)).save(additional / "Type_2/copy.jpg")

    def drawn(index):
        return synthetic.draw(12, "train", index).image.copy()

    rows = [f"train/{path.parent.name}/{path.name},A" for path in (original, train / "Type_3/conflict.jpg")]
    rows.append(f"additional/Type_1/{min((additional / 'Type_1').iterdir()).name},A")
    (folder / "cases.csv").write_text("\n".join(["image_name,case", *rows]))
    lost = drawn(0)
    lost[200:] = 128
    save(train / "Type_2/lost.jpg", lost)
    blurred = Image.fromarray(drawn(1)).filter(ImageFilter.GaussianBlur(8))
    blurred.save(train / "Type_2/blurred.jpg")
    save(train / "Type_2/dark.jpg", drawn(2) // 12)
    noise = np.random.default_rng(0).integers(0, 12, (320, 240, 3)).astype(np.uint8)
    save(train / "Type_2/bright.jpg", 255 - drawn(3) // 20 - noise)
    green = drawn(4)
    green[..., [0, 2]] //= 8
    save(train / "Type_2/green <i>.jpg", green)
    save(train / "Type_2/landscape.jpg", np.ascontiguousarray(np.rot90(drawn(5))))
    return folder


@pytest.fixture(scope="session")
def audit(folder, tmp_path_factory):
    return findings.audit_folder(folder, tmp_path_factory.mktemp("cache") / "m.sqlite")
