"""The page of an evaluation: complete, in one file, the worst errors first, and safe for any name."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from cervix_jax import runs
from cervix_jax.inference import clinical_metrics
from cervix_jax.inference.clinical_metrics import detailed_metrics
from cervix_jax.inference.evaluation import Evaluation
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.plots.evaluation_page import page_path, write_evaluation_page
from tests.explainers.random_predictors import make_member, make_predictor, random_pictures
from tests.plots.test_evaluation_report import ROW

NAMES = ["a.jpg", "<b>.jpg", "caf\udce9.jpg", "d.jpg"]


def cases_of(predictor) -> LabelledPhotographs:
    photographs = []
    for picture in random_pictures(0, (48, 32), 4):
        out = io.BytesIO()
        Image.fromarray(picture).save(out, "JPEG")
        photographs.append(predictor.read_stored(out.getvalue()))
    skipped = ({"image_name": "<i>.jpg", "reason": "empty file"},)
    return LabelledPhotographs(
        photographs, np.array([0, 1, 2, 1]), NAMES, np.arange(4), "folder", skipped, ("seen.jpg",)
    )


def test_where_the_page_is_written() -> None:
    assert page_path(Path("a/b.html")) == Path("a/b.html")
    assert page_path(Path("a/b")) == Path("a/b/report.html")


def test_systems_side_by_side_figures_and_the_worst_errors(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(clinical_metrics, "RESAMPLES", 20)
    members = []
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        runs.write_metrics(tmp_path / name, [ROW])
        member = make_member(seed)
        record = member.record | {"epoch": 7}
        members.append(dataclasses.replace(member, workdir=tmp_path / name, record=record))
    predictor = make_predictor(*members)
    cases = cases_of(predictor)
    # The first is right, and of the others the third is worst.
    probabilities = np.array([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.1, 0.89, 0.01], [0.6, 0.2, 0.2]])
    metrics = detailed_metrics(probabilities, cases.labels, CLASS_NAMES, cases.groups)
    metrics["calibrated"] = {
        "temperature": 1.5,
        "num_examples": 4,
        "before": {"loss": 1.0, "ece": 0.25, "brier": 0.5},
        "after": {"loss": 0.75, "ece": 0.125, "brier": 0.4},
        "reliability": [{"count": 4, "confidence": 0.6, "accuracy": 0.25}],
        "sets": {"0.9": {"coverage": 0.95, "mean_size": 2.5, "singletons": 0.0, "singleton_error": None}},
    }
    alone = {"one": probabilities[::-1], "two": probabilities}
    path = tmp_path / "made/report.html"
    evaluation = Evaluation(metrics, probabilities)
    assert write_evaluation_page(path, predictor, "a <folder>", cases, evaluation, alone, 2) == path
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=.(?!data:)", page)
    assert not {"<b>", "<i>", "<folder>"} & set(re.findall(r"<\w+>", page))
    header = '<th scope="col">metric</th><th scope="col">one + two</th><th scope="col">one</th><th scope="col">two</th>'
    assert header in page
    accuracies = re.findall(r"<td>accuracy</td><td>(0.\d+)\s.*?</td><td>(0.\d+)\s.*?</td><td>(0.\d+)\s", page)
    assert accuracies == [("0.250", f"{np.mean(probabilities[::-1].argmax(axis=1) == cases.labels):.3f}", "0.250")]
    assert page.count("<img ") == 6 + 3  # four figures, curves of two runs, three errors
    assert "Worst errors: 3 of 3" in page
    captions = re.findall(r"<figcaption>([^<]*jpg)<br>true (\w+), called (\w+)<br>", page)
    assert captions == [
        (r"caf\xe9.jpg", "Type_3", "Type_2"),
        ("d.jpg", "Type_2", "Type_1"),
        ("&lt;b&gt;.jpg", "Type_2", "Type_1"),
    ]
    for text in (
        "epoch 7",
        "Temperature 1.500",
        "2.500",
        "seen.jpg",
        "empty file",
        "Research software, not for clinical",
    ):
        assert text in page
    assert 'alt=""' not in page
