"""An export gives `predict`'s numbers in a process that knows nothing of this software; its card tells the truth."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference.artifact import ExportError, export
from cervix_jax.inference.calibration import calibrate
from cervix_jax.inference.evaluation import evaluate
from cervix_jax.inference.labelled import split_photographs
from cervix_jax.inference.prediction_files import predict_folder
from cervix_jax.inference.predictor import Predictor

AFTER = """
import json, pathlib, sys
paths = sorted(pathlib.Path(sys.argv[1]).iterdir())
"""
PRINT = """
assert not any(name.startswith(("cervix_jax", "flax")) for name in sys.modules)
for count in (1, len(paths)):
    found = predict(weights, numpy.stack([read(path) for path in paths[:count]]))
    print(json.dumps({path.name: row.tolist() for path, row in zip(paths, found)}))
"""


@pytest.fixture(params=[(), ("flips",)], ids=["plain", "flips"])
def predictor(request, run):
    return Predictor.restore([run[0]], augmentations=request.param)


def test_the_card_s_own_code_gives_the_numbers_of_predict(predictor, manual_dir, tmp_path) -> None:
    cases = split_photographs(
        predictor, load_dataset(predictor.data_config).examples("validation"), "validation"
    )
    calibration = calibrate(predictor.probabilities(cases.photographs), cases.labels, cases.ids, cases.groups)
    assert abs(calibration.temperature - 1) > 0.05
    calibration.save(predictor.calibration_path)
    metrics, _ = evaluate(predictor, cases)
    export(predictor, calibration, metrics, tmp_path / "export")

    page = (tmp_path / "export/README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0].split("probabilities = ")[0]
    process = subprocess.run(
        [sys.executable, "-c", AFTER + code + PRINT, str(manual_dir / "test")],
        cwd=tmp_path / "export",
        capture_output=True,
        text=True,
        check=True,
    )
    one, every = (json.loads(line) for line in process.stdout.splitlines())
    predict_folder(predictor.with_temperature(calibration.temperature), manual_dir / "test", tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = {row.pop("image_name"): [float(p) for p in row.values()] for row in csv.DictReader(file)}
    assert len(every) == 7
    for found in (one, every):
        for name, probabilities in found.items():
            np.testing.assert_allclose(probabilities, rows[name], atol=1e-5)

    card = json.loads((tmp_path / "export/card.json").read_text())
    assert card["metrics"]["loss"] == {"value": metrics["loss"], "interval": metrics["intervals"]["loss"]}
    assert card["temperature"] == calibration.temperature
    assert card["test_time_augmentation"] == list(predictor.augmentations)
    assert card["classes"] == ["Type_1", "Type_2", "Type_3"]
    assert not list((tmp_path / "export").glob("*.partial"))
    for words in ("Not for clinical decisions", "Limitations", f"{metrics['accuracy']:.3f}", "Temperature"):
        assert words in page


def test_a_card_says_only_what_is_so(run, tmp_path) -> None:
    predictor = Predictor.restore([run[0]])
    cases = split_photographs(
        predictor, load_dataset(predictor.data_config).examples("validation"), "validation"
    )
    calibrate(predictor.probabilities(cases.photographs), cases.labels, cases.ids, cases.groups).save(
        predictor.calibration_path
    )
    metrics, _ = evaluate(predictor, cases)
    predictor.members[0].config.dataset.crop = 0.9
    export(predictor, None, metrics, tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "Temperature" not in page  # there is a calibration, and it was not asked for
    assert json.loads((tmp_path / "card.json").read_text())["metrics"]["calibrated"] is None
    assert "def read" not in page  # which would not crop


def test_an_ensemble_is_not_exported_as_one(run, tmp_path) -> None:
    predictor = Predictor.restore([run[0], run[0]])
    with pytest.raises(ExportError, match="one run is exported at a time"):
        export(predictor, None, {}, tmp_path)
