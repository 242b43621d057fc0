"""The programs as a user calls them: the last line, statuses, and what a killed run leaves."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from cervix_jax import runs
from cervix_jax.images import synthetic
from tests.programs import ROOT, call, result, run_flags, start


@pytest.fixture
def flags(manual_dir, data_dir):
    return run_flags(manual_dir, data_dir)


def test_the_job_from_training_to_decisions_and_a_card(flags, tmp_path, manual_dir, data_dir):
    workdir = f"--workdir={tmp_path / 'run'}"
    trained = result("train", *flags, workdir)
    assert set(trained) == {"best", "images_per_second", "epochs", "parameters"}
    calibrated = result("calibrate", workdir)
    assert calibrated["fitted_on"] + calibrated["reference"] == 12
    # Evaluation finds the data where it has moved to, and gives the loss that training logged.
    figures = tmp_path / "figures"
    outputs = [f"--figures={figures}", f"--report={tmp_path / 'report'}", f"--table={tmp_path / 'table.csv'}"]
    scores = result("evaluate", workdir, f"--data_dir={data_dir}", *outputs, "--unsafe_rate=0.3")
    assert "<h2>Worst errors" in (tmp_path / "report/report.html").read_text()
    assert (tmp_path / "table.csv").read_text().count("Type_1 Type_2") > 0
    assert scores["loss"] == pytest.approx(trained["best"]["loss"], abs=1e-6)
    assert {"accuracy", "num_examples", "confusion_matrix", "per_class", "ece", "brier"} <= set(scores)
    assert scores["calibrated"]["temperature"] == calibrated["temperature"]
    assert scores["operating_point"]["num_examples"] == calibrated["fitted_on"]
    names = {"confusion_matrix", "learning_curves", "predictions", "reliability", "risk_coverage"}
    assert {path.stem for path in figures.iterdir()} == names

    output = tmp_path / "predictions.csv"
    files = [f"--images={manual_dir / 'test'}", f"--output={output}"]
    predicted = result("predict", workdir, *files, "--coverage=0.8", "--unsafe_rate=0.3")
    assert predicted["predicted"] == len(output.read_text().splitlines()) - 1 == 7
    assert predicted["temperature"] == calibrated["temperature"]
    assert predicted["rule"]["threshold"] == scores["operating_point"]["threshold"]
    assert 0 <= predicted["rule"]["expected"]["unsafe_rate"] <= 0.3
    with (tmp_path / "predictions.decisions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    for row in rows:
        assert row["decision"] == (row["type"] if row["set"] == row["type"] else "refer")
        assert 0 < float(row["quality"]) <= 1
    assert predicted["referred"] == sum(row["decision"] == "refer" for row in rows)
    page = result("explain", workdir, files[0], f"--output={tmp_path / 'explained'}", "--format=html")
    assert page["explained"] == 7
    assert [Path(path).name for path in page["figures"]] == ["explanations.html"]
    exported = result("export", workdir, f"--output={tmp_path / 'export'}", "--nocalibrated")
    assert exported["temperature"] is None
    assert all(Path(path).stat().st_size for path in exported["files"].values())

    check_that_a_page_keeps_nothing(workdir, tmp_path)


def ask(url, body=None, headers=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {})) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        return error.read()


def check_that_a_page_keeps_nothing(workdir, directory):
    """Sends a photograph with words that are nowhere else, and looks for them on the disk and in the log."""
    secret, name = "ZQ7-the-patient-s-name", "ZQ7-the-file-s-name"
    image, exif = Image.fromarray(synthetic.draw(17, "test", 0).image), Image.Exif()
    exif[0x010E], exif.get_ifd(0x8825)[29] = secret, secret  # the description; the place's date
    raw, out = io.BytesIO(), io.BytesIO()
    image.save(raw, "JPEG", exif=exif)
    Image.open(io.BytesIO(raw.getvalue())).convert("RGB").save(out, "PPM")
    assert raw.getvalue().count(secret.encode()) == 2
    pieces = [bytes_[i : i + 24] for bytes_ in (raw.getvalue()[2000:], out.getvalue()) for i in range(0, 40_000, 997)]
    pieces = [secret.encode(), name.encode(), *(piece for piece in pieces if len(set(piece)) > 8)]
    assert len(pieces) > 20

    places = {place: directory / "server" / place for place in ("HOME", "TMPDIR", "work")}
    for place in places.values():
        place.mkdir(parents=True)
    compiled = places["HOME"] / "compiled"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    environment |= {place: str(places[place]) for place in ("HOME", "TMPDIR")}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(compiled)}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # kept however fast it was
    page = start("serve", workdir, "--port=0", "--batch_size=1", env=environment, cwd=places["work"])
    try:
        address = next(line for line in page.stderr if "ready" in line).split("open ")[1].split()[0]
        before = [places[place].stat().st_mtime_ns for place in ("TMPDIR", "work")]
        head = f'--x\r\nContent-Disposition: form-data; name="p"; filename="{name}.jpg"\r\n\r\n'.encode()
        form = b"".join(head + body + b"\r\n" for body in (raw.getvalue(), secret.encode())) + b"--x--\r\n"
        answers = json.loads(ask(f"{address}v1/predict", form, {"Content-Type": "multipart/form-data; boundary=x"}))
        answer, unreadable = answers["photographs"]
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert unreadable["error"]["code"] == "unreadable"
        explanation = ask(f"{address}v1/explain?method=saliency", raw.getvalue())
        assert Image.open(io.BytesIO(explanation)).size == image.size
        errors = ask(f"{address}v1/explain?method={name}", raw.getvalue()) + ask(f"{address}{name}?{secret}")
        if sys.platform == "linux":
            assert re.search(r"core file size +0 ", Path(f"/proc/{page.pid}/limits").read_text())
        assert [places[place].stat().st_mtime_ns for place in ("TMPDIR", "work")] == before  # nothing came or went
        page.send_signal(signal.SIGTERM)
        out, err = page.communicate(timeout=60)
    finally:
        page.kill()
    assert (page.returncode, json.loads(out)["photographs"]) == (0, 2)
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert any(compiled in path.parents for path in files)
    contents = {"answers": explanation + errors, "log": (out + err).encode()} | {
        str(path): path.read_bytes() for path in files
    }
    assert [(place, piece) for place, content in contents.items() for piece in pieces if piece in content] == []


def test_one_type_against_the_rest_from_training_to_prediction(flags, tmp_path, manual_dir):
    flags = [*flags, "--config.selection.one_vs_rest=Type_3", "--config.epochs=1", "--config.loss.class_weights=(1,2)"]
    result("train", *flags, f"--workdir={tmp_path / 'run'}")
    scores = result("evaluate", f"--workdir={tmp_path / 'run'}")
    assert list(scores["per_class"]) == ["rest", "Type_3"]
    table = tmp_path / "predictions.csv"
    files = [f"--images={manual_dir / 'test'}", f"--output={table}"]
    result("predict", f"--workdir={tmp_path / 'run'}", *files)
    assert table.read_text().splitlines()[0] == "image_name,rest,Type_3"
    # With rules that there is nothing to choose by, of a folder for no site, and of a folder by a split.
    alone = [f"--workdir={tmp_path / 'run'}", "--tta=flips"]
    status, _, message = call("predict", *alone, *files, "--coverage=0.9")
    assert (status, "python -m cervix_jax.calibrate with the same" in message) == (2, True)
    status, _, message = call("calibrate", *alone, f"--images={manual_dir}")
    assert (status, "--images=FOLDER and --site=NAME go together" in message) == (2, True)
    status, _, message = call("evaluate", *alone, f"--images={manual_dir / 'train'}", "--split=train")
    assert (status, "give one of the two" in message) == (2, True)


def test_folds_are_trained_brought_together_used_and_compared(flags, tmp_path, manual_dir):
    flags = [*flags, "--config.selection.folds=2", "--config.selection.fold=0", "--config.epochs=1"]
    workdir = f"--workdir={tmp_path / 'cv'}"
    half = result("crossvalidate", *flags, workdir, "--folds=1")
    assert half == {"unfinished": [str(tmp_path / "cv/fold0")]}
    pooled = result("crossvalidate", *flags, workdir)
    assert pooled["num_examples"] == 60
    scores = result("evaluate", workdir, f"--table={tmp_path / 'table.csv'}")
    assert scores["loss"] == pytest.approx(pooled["loss"], abs=1e-6)
    assert (tmp_path / "table.csv").read_text() == (tmp_path / "cv/oof.csv").read_text()
    calibrated = result("calibrate", workdir)
    assert calibrated["reference"] == 60
    files = [f"--images={manual_dir / 'test'}", f"--output={tmp_path / 'predictions.csv'}", "--coverage=0.8"]
    predicted = result("predict", workdir, *files)
    assert (predicted["predicted"], predicted["temperature"]) == (7, calibrated["temperature"])
    compared = result("compare", f"--workdir={tmp_path / 'cv/fold1'}", f"--workdir={tmp_path / 'table.csv'}")
    assert compared["num_examples"] == 30
    assert compared["metrics"]["loss"]["difference"] == pytest.approx(0, abs=1e-6)
    status, _, message = call("compare", workdir)
    assert (status, "give --workdir twice" in message) == (2, True)


def test_every_program_says_what_it_does_and_which_flags_it_takes():
    status, out, _ = call("__main__")
    assert status == 0
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("  ")}
    assert {"train", "predict", "crossvalidate", "options"} <= listed
    shown = {}
    for program in ("train", "calibrate", "evaluate"):
        status, shown[program], _ = call("__main__", program, "--help")
        assert status == 0
    assert "--config\n" in shown["train"]
    assert "--workdir\n" in shown["calibrate"]
    assert "--combine=report|mean|geometric\n      Mean over runs" in shown["calibrate"]
    assert "--[no]robustness" in shown["evaluate"]
    status, _, message = call("__main__", "trian")
    assert (status, message) == (2, "error: there is no program 'trian'; did you mean train?\n")


def test_options_and_the_values_of_a_config_are_listed():
    status, out, err = call("options", "--config=configs/localiser.py")
    assert status == 0
    assert json.loads(out)["task"] == "localise"
    assert "--config.task=localise\n      by default classify" in err
    assert "--config.seed" not in err
    status, _, err = call("options")
    assert "--config.optimizer.l2=0.0005\n      Factor of the sum of squared kernels" in err
    assert "--config=configs/report.py\n      The report's best single system" in err
    status, _, err = call("options", "--config=configs/README.md")
    assert (status, "configuration" in err) == (2, True)


def test_prepare_counts_examples_and_what_was_dropped(flags):
    counts = result("prepare", *flags)
    assert counts["splits"] == {"train": 48, "validation": 12, "test": 7}
    assert counts["dropped"] == counts["rejected"] == {}


def test_audit_counts_each_kind_of_finding(manual_dir, tmp_path):
    counts = result("audit", f"--manual_dir={manual_dir}", f"--output={tmp_path}")
    assert {"damaged", "near_duplicates", "label_conflict", "blurred", "rejected", "photographs"} <= set(counts)
    assert sum(counts["photographs"]["train"].values()) == 60
    assert (tmp_path / "index.html").is_file()
    status, _, message = call("audit", f"--manual_dir={manual_dir}", f"--output={manual_dir / 'audit'}")
    assert (status, "lies among the photographs" in message) == (2, True)


def metrics_of(workdir):
    clock = ("images_per_second", "validation_seconds")
    return [{key: value for key, value in row.items() if key not in clock} for row in runs.read_metrics(workdir)]


EPOCHS = "--config.epochs=12"


@pytest.fixture(scope="module")
def whole(manual_dir, data_dir, tmp_path_factory):
    """Metrics of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    result("train", *run_flags(manual_dir, data_dir), EPOCHS, f"--workdir={workdir}")
    return metrics_of(workdir)


@pytest.mark.reliability  # by default one of several processes is asked to stop, and `reliability/kill.py` kills
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_that_is_asked_to_stop_resumes_and_ends_with_the_same_metrics(flags, whole, tmp_path, number):
    process = start("train", *flags, EPOCHS, f"--workdir={tmp_path}")
    for line in process.stderr:  # after the first epoch of many
        if line.startswith("epoch 1/"):
            process.send_signal(number)
            break
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert 1 <= len(runs.read_metrics(tmp_path)) < len(whole)
    result("train", *flags, EPOCHS, f"--workdir={tmp_path}")
    assert metrics_of(tmp_path) == whole


def test_no_other_framework_is_imported_and_prediction_needs_no_input_pipeline():
    programs = {path.stem for path in (ROOT / "cervix_jax").glob("*.py") if "__main__" in path.read_text()}
    rooms = ("cervix_jax.training.loop", "cervix_jax.plots.evaluation_report", "cervix_jax.inference.prediction_files")
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1].split(): importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )

    def loaded(*names):
        return set(subprocess.check_output([sys.executable, "-c", code, " ".join(names)], text=True).split())

    training = loaded(*rooms)
    assert {"jax", "flax", "grain", "tensorflow_datasets"} <= training
    assert not {"tensorflow", "torch", "clu", "keras"} & training
    inference = [f"cervix_jax.inference.{path.stem}" for path in (ROOT / "cervix_jax/inference").glob("[a-z]*.py")]
    assert not {"grain", "tensorflow_datasets"} & loaded(*inference)
    for name in programs:  # so that --help is fast
        assert not {"jax", "tensorflow_datasets", "matplotlib"} & loaded(f"cervix_jax.{name}")
    backends = "import cervix_jax.datasets.pipeline, jax._src.xla_bridge as bridge; print(len(bridge._backends))"
    assert subprocess.check_output([sys.executable, "-c", backends], text=True).strip() == "0"


def test_environment_of_the_scripts_refuses_other_pythons(tmp_path):
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\n[ \"$1\" = -c ] && exit 1\necho 'Python 3.9.1'\n")
    fake.chmod(0o755)
    environment = os.environ | {"PYTHON": str(fake), "VENV": str(tmp_path / "venv")}
    done = subprocess.run([ROOT / "launch/test.sh"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed; found Python 3.9.1" in done.stderr
    assert not (tmp_path / "venv").exists()
