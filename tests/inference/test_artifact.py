"""An export gives `predict`'s numbers in a process that knows nothing of this software."""

import csv
import dataclasses
import json
import subprocess
import sys

import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference.artifact import ExportError, export, export_localiser
from cervix_jax.inference.localisation import evaluate_boxes
from cervix_jax.inference.prediction_files import predict_folder
from cervix_jax.inference.predictor import Predictor
from cervix_jax.training.localiser import Localiser

BEFORE = """
import json, pathlib, sys
paths = sorted(pathlib.Path(sys.argv[1]).iterdir())
"""
AFTER = """
assert not any(name.startswith(("cervix_jax", "flax")) for name in sys.modules)
for count in (1, len(paths)):
    rows = predict(weights, numpy.stack([read(path) for path in paths[:count]]))
    print(json.dumps({path.name: row.tolist() for path, row in zip(paths, rows)}))
"""


@pytest.mark.parametrize("augmentations", [(), ("flips",)], ids=["plain", "flips"])
def test_the_card_s_own_code_gives_the_numbers_of_predict(
    augmentations, predictor, calibration, metrics, manual_dir, tmp_path
) -> None:
    assert abs(calibration.temperature - 1) > 0.05
    predictor = dataclasses.replace(predictor, augmentations=augmentations, calibration=calibration)
    check_card_code(predictor, metrics, manual_dir / "test", tmp_path)
    card = json.loads((tmp_path / "export/card.json").read_text())
    assert card["temperature"] == calibration.temperature
    assert card["test_time_augmentation"] == list(augmentations)


def test_so_does_that_of_a_run_with_a_localiser(cropped_run, metrics, manual_dir, tmp_path) -> None:
    check_card_code(Predictor.restore([cropped_run[0]]), metrics, manual_dir / "test", tmp_path)


def check_card_code(predictor, metrics, images, tmp_path) -> None:
    files = export(predictor, metrics, tmp_path / "export")
    written = [path for path in (tmp_path / "export").rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path / "export").as_posix() for path in written} == set(files)
    page = (tmp_path / "export/README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0].split("probabilities = ")[0]
    process = subprocess.run(
        [sys.executable, "-c", BEFORE + code + AFTER, str(images)],
        cwd=tmp_path / "export",
        capture_output=True,
        text=True,
        check=True,
    )
    first, every = (json.loads(line) for line in process.stdout.splitlines())
    predict_folder(predictor, images, tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = {row.pop("image_name"): [float(p) for p in row.values()] for row in csv.DictReader(file)}
    assert (len(first), len(every)) == (1, 7)
    for exported in (first, every):
        for name, probabilities in exported.items():
            np.testing.assert_allclose(probabilities, rows[name], atol=1e-5)


def test_an_exported_localiser_finds_the_same_boxes(localiser_run, tmp_path) -> None:
    localiser = Localiser.restore(localiser_run)
    examples = load_dataset(localiser.config).examples("validation")
    measured, found = evaluate_boxes(localiser, examples)
    files = export_localiser(localiser, "finder", measured, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(files)
    locate = jax.export.deserialize(bytearray((tmp_path / "locate.jax_export").read_bytes())).call
    weights = safetensors.numpy.load_file(tmp_path / "localiser.safetensors")
    np.testing.assert_allclose(locate(weights, np.stack(list(examples.images))), found, atol=1e-5)
    assert json.loads((tmp_path / "card.json").read_text())["metrics"]["mean_iou"]["value"] == measured["mean_iou"]
    assert f"| mean_iou | {measured['mean_iou']:.3f} |" in (tmp_path / "README.md").read_text()


def test_so_does_that_of_a_cross_validation(cross_validated, calibration, metrics, manual_dir, tmp_path) -> None:
    folds = np.arange(len(calibration.labels)) % 3
    crossed = dataclasses.replace(calibration, folds=folds, fold_temperatures=(1.5,) * 3)
    predictor = dataclasses.replace(cross_validated, calibration=crossed)
    check_card_code(predictor, metrics, manual_dir / "test", tmp_path)
    card = json.loads((tmp_path / "export/card.json").read_text())
    assert (card["runs"], card["combined_by"], card["metrics"]["split"]) == (3, "mean", "out-of-fold")
    assert "not by the mean of 3 runs" in (tmp_path / "export/README.md").read_text()


@pytest.fixture
def originals(manual_dir, tmp_path):
    """Photographs larger than what data sets store, on their side, and no JPEG."""
    folder = tmp_path / "originals"
    folder.mkdir()
    for i, path in enumerate(sorted((manual_dir / "test").iterdir())):
        image = Image.open(path)
        if i < 4:
            image = image.resize((2448, 3264) if i < 3 else (700, 500), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[0x0112] = (1, 6, 8, 3, 6, 1, 1)[i]
        image.save(folder / f"{i}.{'png' if i == 6 else 'jpg'}", exif=exif)
    return folder


def test_camera_originals_are_read_alike(predictor, originals, metrics, tmp_path) -> None:
    check_card_code(predictor, metrics, originals, tmp_path)


def test_so_does_that_of_runs_with_localisers_of_their_own(cropped_run, metrics, originals, tmp_path) -> None:
    (member,) = Predictor.restore([cropped_run[0]]).members
    shaken = jax.tree.map(lambda x: x * 1.05, member.localiser.variables)
    record = member.localiser.record | {"epoch": 99}
    localiser = dataclasses.replace(member.localiser, variables=shaken, record=record)
    other = dataclasses.replace(member, localiser=localiser)
    predictor = dataclasses.replace(Predictor.restore([cropped_run[0]]), members=(member, other), rule="mean")
    assert len(predictor.network_inputs) == 2
    check_card_code(predictor, metrics, originals, tmp_path)


def test_runs_that_see_photographs_differently_are_not_one_export(predictor, cropped_run, tmp_path) -> None:
    cropped = Predictor.restore([cropped_run[0]]).members
    with pytest.raises(ExportError, match="in different ways"):
        export(dataclasses.replace(predictor, members=predictor.members + cropped), {}, tmp_path)
