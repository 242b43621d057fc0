"""An export gives `predict`'s numbers in a process that knows nothing of this software."""

import csv
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from cervix_jax.inference.artifact import ExportError, export
from cervix_jax.inference.prediction_files import predict_folder

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
    files = export(predictor, metrics, tmp_path / "export")
    assert {path.name for path in (tmp_path / "export").iterdir()} == set(files)

    page = (tmp_path / "export/README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0].split("probabilities = ")[0]
    process = subprocess.run(
        [sys.executable, "-c", BEFORE + code + AFTER, str(manual_dir / "test")],
        cwd=tmp_path / "export",
        capture_output=True,
        text=True,
        check=True,
    )
    first, every = (json.loads(line) for line in process.stdout.splitlines())
    predict_folder(predictor, manual_dir / "test", tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = {row.pop("image_name"): [float(p) for p in row.values()] for row in csv.DictReader(file)}
    assert (len(first), len(every)) == (1, 7)
    for exported in (first, every):
        for name, probabilities in exported.items():
            np.testing.assert_allclose(probabilities, rows[name], atol=1e-5)

    card = json.loads((tmp_path / "export/card.json").read_text())
    assert card["temperature"] == calibration.temperature
    assert card["test_time_augmentation"] == list(augmentations)


def test_an_ensemble_is_not_exported_as_one(predictor, tmp_path) -> None:
    with pytest.raises(ExportError, match="one run is exported at a time"):
        export(dataclasses.replace(predictor, members=predictor.members * 2), {}, tmp_path)
