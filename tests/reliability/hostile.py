"""Gives every reader of files damaged ones: each is read, or refused in one line, in bounded time and memory.

python -m tests.reliability.hostile [--inputs=10000] [--kinds=photograph,...] [--seed=0]

Input number i of a kind is a function of (seed, kind, i) alone, so that `--kinds=KIND --only=I` repeats one. A worker
with limited memory and an alarm reads them; if it dies, the input that it died of is counted, and another goes on.
'WRONG' is any other exception than UserError or UnreadableError, a result that is not finite, memory that ran out,
death, and a message of several pages. Prints a table; status 1 if anything was wrong.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import math
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import safetensors.numpy

from cervix_jax import config as options
from cervix_jax import progress, runs
from cervix_jax.datasets import annotations, feature_cache, kaggle
from cervix_jax.datasets.dataset import MANIFEST_FILE, load_dataset
from cervix_jax.datasets.file_digests import file_digests
from cervix_jax.datasets.quality import QualityReference
from cervix_jax.errors import UserError
from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.files import UnreadableError
from cervix_jax.inference.calibration import Calibration, calibrate
from cervix_jax.inference.prediction_table import PredictionTable
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.weights import keras_h5, torch_safetensors
from cervix_jax.training import epoch_metrics
from cervix_jax.training.localiser import Localiser
from tests.images.encodings import encoded, gradient
from tests.images.test_hostile_photographs import mutated, originals
from tests.reliability import mutations
from tests.reliability.faults import make_run

MEMORY = 1 << 30  # bytes beyond what the worker has when it starts to read
SECONDS = 60  # for one input, on a busy machine
NAMES = [f"train/{name}/{i}.jpg" for name in CLASS_NAMES for i in (1, 2)] + ["additional/Type_1/1.jpg", "test/1.jpg"]
OUTCOMES = ("read", "refused", "WRONG")


@dataclasses.dataclass(frozen=True)
class Kind:
    """Files of one kind, how they are damaged and who reads them.

    Attributes:
      originals: whole files.
      mutate: damages one.
      place: where the damaged file is put.
      read: reads it; what it returns has to be finite.
      share: how many there are, compared with others.
    """

    originals: list[bytes]
    mutate: mutations.Mutation
    place: Path
    read: Callable[[Path], Any]
    share: int = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="read this one alone, and show its traceback")
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "FIRST", "END"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="keep what the inputs are made of, for the next time")
    arguments = parser.parse_args()
    progress.silence()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        if not (folder / "run" / runs.RECORD).exists():
            make_run(folder)
        if arguments.worker:
            kind, first, end = arguments.worker
            work(kind, kinds(folder)[kind], range(int(first), int(end)), arguments.seed)
            return
        every = kinds(folder)
        chosen = arguments.kinds.split(",") if arguments.kinds else list(every)
        if arguments.only is not None:
            print(outcome(chosen[0], every[chosen[0]], arguments.only, arguments.seed, show=True))
            return
        total = sum(every[kind].share for kind in chosen)
        counts: dict[str, collections.Counter[str]] = {}
        for kind in chosen:
            number = round(arguments.inputs * every[kind].share / total)
            counts[kind] = collections.Counter()
            for i, found in read_in_workers(kind, number, arguments.seed, folder):
                counts[kind][found.partition(":")[0]] += 1
                if found.startswith("WRONG"):
                    print(f"{kind} {i}: {found}", flush=True)
        print(f"| files | {' | '.join(OUTCOMES)} |\n|---|---|---|---|")
        for kind, count in counts.items():
            print(f"| {kind} | {' | '.join(str(count[name]) for name in OUTCOMES)} |")
    sys.exit(any(count["WRONG"] for count in counts.values()))


def kinds(folder: Path) -> dict[str, Kind]:
    """Every kind of file that is read, from a run that `faults.make_run` made in a folder."""
    run, scratch = folder / "run", folder / "scratch"
    for name in ("localiser", "run", *annotations.FILES, "LabelMe/train/Type_1", *kaggle.TABLES):
        (scratch / name).mkdir(parents=True, exist_ok=True)  # for each file that is looked for in a folder
    weights = {name: make_weights(name, scratch) for name in ("resnet50", "resnet50_v1_5")}
    calibration, table = make_calibration(scratch / "calibration.json"), make_table(scratch / "table.csv")
    boxes = make_boxes()
    prepared = load_dataset(make_config(folder))
    manifest = Path(prepared.builder.data_path) / MANIFEST_FILE
    expected = prepared.fingerprint, prepared.splits

    def same_data(_: Path) -> None:
        again = load_dataset(make_config(folder))
        assert (again.fingerprint, again.splits) == expected

    def located(path: Path) -> Any:
        for name in ("localiser.json", "localiser.safetensors"):
            other = path.with_name(name)
            if other != path:
                other.write_bytes((run / "localiser" / name).read_bytes())
        return Localiser.load(path.parent).variables

    def boxes_of(path: Path) -> Any:
        return annotations.read_boxes(path.parent, NAMES)

    def corrections_of(path: Path) -> Any:
        return vars(kaggle.find_corrections(path.parent, NAMES))

    def of_workdir(path: Path) -> Any:
        rows = runs.read_metrics(path.parent)
        return epoch_metrics.is_over(rows, 100, 1), epoch_metrics.best(rows)["epoch"] if rows else None

    metrics = [(run / runs.METRICS).read_bytes()]
    coordinates = [(folder / "photographs/boxes.csv").read_bytes(), boxes["boxes.csv"]]
    digests = make_caches(scratch / "caches", folder / "photographs")
    found = {
        "photograph": Kind([*originals(), *small_pictures()], mutated, scratch / "photograph", read_picture, 12),
        "weights .h5": Kind([weights["resnet50"]], mutated, scratch / "w.h5", weights_reader("resnet50"), 5),
        "weights .safetensors": Kind(
            [weights["resnet50_v1_5"]], mutations.tensors, scratch / "w.safetensors", weights_reader("resnet50_v1_5"), 5
        ),
        "run.json": Kind([(run / runs.RECORD).read_bytes()], mutations.value, scratch / "run/run.json", read_run),
        "metrics.jsonl": Kind(metrics, mutations.value, scratch / "metrics.jsonl", of_workdir),
        "calibration": Kind(
            [calibration], mutations.value, scratch / "c.json", lambda path: Calibration.load(path, "x")
        ),
        "quality.npz": Kind(
            [(run / "quality.npz").read_bytes()], mutations.archive, scratch / "q.npz", QualityReference.load
        ),
        "manifest.npz": Kind([manifest.read_bytes()], mutated, manifest, same_data, 1),
        "prediction table": Kind([table], mutations.text, scratch / "t.csv", PredictionTable.read),
        "localiser.json": Kind(
            [(run / "localiser/localiser.json").read_bytes()],
            mutations.value,
            scratch / "localiser/localiser.json",
            located,
            1,
        ),
        "localiser.safetensors": Kind(
            [(run / "localiser/localiser.safetensors").read_bytes()],
            mutations.tensors,
            scratch / "localiser/localiser.safetensors",
            located,
            1,
        ),
    }
    for name, mutate in zip(annotations.FILES, (mutations.text, mutations.value, mutations.text), strict=True):
        files = coordinates if name == annotations.CSV else [boxes[name]]
        found[name] = Kind(files, mutate, scratch / name / name, boxes_of)
    labelme = scratch / "LabelMe"
    found["LabelMe"] = Kind(
        [boxes["1.json"]],
        mutations.value,
        labelme / "train/Type_1/1.json",
        lambda _: annotations.read_boxes(labelme, NAMES[:1]),
    )
    for name, content in make_kaggle_tables().items():
        found[name] = Kind([content], mutations.text, scratch / name / name, corrections_of, 1)
    for name, (content, read) in digests.items():
        found[name] = Kind([content], mutated, scratch / "caches" / name, read, 1)
    return found


def read_in_workers(kind: str, number: int, seed: int, folder: Path) -> Iterator[tuple[int, str]]:
    """Number and outcome of each input."""
    done = 0
    while done < number:
        command = [sys.executable, "-m", "tests.reliability.hostile", f"--seed={seed}", f"--folder={folder}"]
        with subprocess.Popen(
            [*command, "--worker", kind, str(done), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as worker:
            for line in worker.stdout or ():
                if line.startswith("@"):
                    yield done, line[1:].strip()
                    done += 1
            said = (worker.stderr.read() if worker.stderr else "").strip().splitlines()
        if worker.returncode < 0:
            yield done, f"WRONG: died of {signal.Signals(-worker.returncode).name}"
            done += 1
        elif worker.returncode:
            raise SystemExit(f"a worker does not start: {said[-1:]}")


def work(name: str, kind: Kind, numbers: range, seed: int) -> None:
    with contextlib.suppress(Exception):  # whatever a reader imports or compiles is none of its inputs'
        kind.place.write_bytes(kind.originals[0])
        kind.read(kind.place)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for i in numbers:
        signal.alarm(SECONDS)  # whose default is death
        print("@" + outcome(name, kind, i, seed), flush=True)


def outcome(name: str, kind: Kind, number: int, seed: int, *, show: bool = False) -> str:
    """'read', 'refused: why' or 'WRONG: what', of one input."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
    content = kind.originals[number % len(kind.originals)]
    kind.place.write_bytes(kind.mutate(content, rng))
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            result = kind.read(kind.place)
        return "read" if is_finite(result) else "WRONG: the result is not finite"
    except (UserError, UnreadableError) as error:
        message = str(error)
        if "MemoryError" in message or len(message) > 10_000 or not message:
            return f"WRONG: {message[:200]!r}"
        return f"refused: {message[:100]!r}"
    except BaseException as error:
        if show:
            traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"WRONG: {type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {str(error)[:100]!r}"


def is_finite(result: Any) -> bool:
    """Of everything inside."""
    if isinstance(result, float):
        return math.isfinite(result)
    if isinstance(result, np.ndarray | jax.Array):
        return result.dtype.kind not in "fc" or bool(np.isfinite(result).all())
    if isinstance(result, dict):
        return all(map(is_finite, result.values()))
    if isinstance(result, list | tuple):
        return all(map(is_finite, result))
    return is_finite(vars(result)) if dataclasses.is_dataclass(result) else True


def read_picture(path: Path) -> Any:
    image = read_photograph(path)
    assert image.mode == "RGB"
    to_stored(path.read_bytes(), (64, 48))
    return np.asarray(image).shape


def read_run(path: Path) -> Any:
    """As a program that resumes the run, or checks it."""
    record = runs.read_record(path.parent)
    config = options.unflatten(options.flatten(runs.read_record(path.parents[2] / "run")["config"]))
    runs.check_config(path.parent, config)
    runs.check_data(path.parent, runs.read_record(path.parents[2] / "run")["data_fingerprint"])
    return record.get("class_names")


def weights_reader(name: str) -> Callable[[Path], Any]:
    template = jax.eval_shape(Backbone(BACKBONES[name], "conv1_bn").init, jax.random.key(0), np.zeros((1, 75, 75, 3)))
    reader = {"resnet50": keras_h5, "resnet50_v1_5": torch_safetensors}[name]
    return lambda path: reader.read(path, BACKBONES[name], template)


def make_config(folder: Path):
    from tests.conftest import make_tiny_config

    config = make_tiny_config(folder / "photographs", folder / "data")
    config.dataset.manual_dir = None
    return config


def make_weights(name: str, folder: Path) -> bytes:
    """A small file of the first layers, as Keras or torchvision lay it out."""
    rng = np.random.default_rng(0)
    arrays = {"gamma": (64,), "beta": (64,), "moving_mean": (64,), "moving_variance": (64,)}
    values = {key: rng.uniform(0.5, 1, shape).astype(np.float32) for key, shape in arrays.items()}
    kernel = rng.normal(0, 0.1, (7, 7, 3, 64)).astype(np.float32)
    if name == "resnet50":
        path = folder / "made.h5"
        with h5py.File(path, "w") as file:
            file["conv1_conv/conv1_conv/kernel:0"] = kernel
            file["conv1_conv/conv1_conv/bias:0"] = values["beta"]
            for key, value in values.items():
                file[f"conv1_bn/conv1_bn/{key}:0"] = value
        return path.read_bytes()
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    content = {"conv1.weight": kernel.transpose(3, 2, 0, 1).copy()}
    return safetensors.numpy.save(content | {f"bn1.{names[key]}": value for key, value in values.items()})


def make_calibration(path: Path) -> bytes:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    probabilities = rng.dirichlet(np.ones(3), 60) * 0.5 + 0.5 * np.eye(3)[labels]
    calibrate(probabilities, labels, [str(i) for i in range(60)], np.arange(60)).save(path, "x")
    return path.read_bytes()


def make_table(path: Path) -> bytes:
    labels = np.arange(6) % 3
    values = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    PredictionTable([f"a {i}.jpg" for i in range(6)], labels, labels, labels, values, CLASS_NAMES).write(path)
    return path.read_bytes()


def make_boxes() -> dict[str, bytes]:
    """A file of boxes as each tool writes it."""
    rows = ["image_name,left,top,right,bottom,annotator"] + [f"{name},0.1,0.2,0.8,0.9,a" for name in NAMES]
    images = ",".join(f'{{"id": {i}, "file_name": "{n}", "height": 40, "width": 30}}' for i, n in enumerate(NAMES))
    places = ",".join(f'{{"id": {i}, "image_id": {i}, "bbox": [3, 4, 12, 20]}}' for i in range(len(NAMES)))
    xml = "".join(
        f'<image id="{i}" name="{n}" width="30" height="40"><box label="a" xtl="1" ytl="2" xbr="20" ybr="30"/></image>'
        for i, n in enumerate(NAMES)
    )
    labelme = '{"imageHeight": 40, "imageWidth": 30, "shapes": [{"points": [[3, 4], [12, 20]], "label": "a"}]}'
    texts = {
        "boxes.csv": "\n".join(rows),
        "boxes.json": f'{{"images": [{images}], "annotations": [{places}]}}',
        "boxes.xml": f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{xml}</annotations>',
        "1.json": labelme,
    }
    return {name: text.encode() for name, text in texts.items()}


def make_kaggle_tables() -> dict[str, bytes]:
    rows = "filename,old_label,new_label\n1.jpg,Type_1,Type_2\n2.jpg,Type_3,Type_1\n"
    solution = "image_name,Type_1,Type_2,Type_3\n1.jpg,0,1,0\n2.jpg,1,0,0\n"
    tables = {kaggle.FIXED_LABELS[0]: rows, kaggle.REMOVED_FILES: rows, kaggle.TEST_LABELS: solution}
    return {name: text.encode() for name, text in tables.items()}


def make_caches(folder: Path, photographs: Path) -> dict[str, tuple[bytes, Callable[[Path], Any]]]:
    """The SQLite files that `prepare` keeps beside data sets, and who reads them; they never decide what is read."""
    folder.mkdir(exist_ok=True)
    names = [path.relative_to(photographs).as_posix() for path in sorted((photographs / "test").iterdir())[:3]]

    def digests(path: Path) -> None:
        if file_digests(photographs, names, path) != expected:
            raise UserError("other photographs than were prepared")  # which `load_dataset` finds

    def features(path: Path) -> Any:
        table = feature_cache.extract_all({name: photographs / name for name in names}, path, inside=photographs)
        return table.histograms, table.sharpness

    for name in ("digests.sqlite", "features.sqlite"):
        (folder / name).unlink(missing_ok=True)
    expected = file_digests(photographs, names, folder / "digests.sqlite")
    features(folder / "features.sqlite")
    readers = {"digests.sqlite": digests, "features.sqlite": features}
    return {name: ((folder / name).read_bytes(), read) for name, read in readers.items()}


def small_pictures() -> list[bytes]:
    return [encoded(gradient(9, 7), form) for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")]


if __name__ == "__main__":
    main()
