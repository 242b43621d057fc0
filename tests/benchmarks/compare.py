"""Ours against the same networks in PyTorch (channels last) and Keras on TensorFlow, in turn, on the same inputs.

tests/benchmarks/compare.sh [NETWORK.WHAT ...], such as frozen.step; all rows if none is given.

Prints a line of JSON for each row. `ours`, `pytorch`, `keras`: images a second (bytes for memory), medians over rounds;
`ratio`: ours against the better peer, median over rounds; `spread`: interquartile range of the ratio. Each network is a
process of its own, and before anything is timed its parameters are counted and its output compared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import traverse_util
from PIL import Image

from cervix_jax.images import synthetic
from cervix_jax.models.classifier import make_classifier
from cervix_jax.models.heads.box_voting import BoxVotingHead
from cervix_jax.training.initialisation import init_variables
from configs import best, localiser, report

HERE = Path(__file__).parent
FRAMEWORKS = ("ours", "pytorch", "keras")


class Worker:
    """A framework's network in a process."""

    def __init__(self, framework: str, folder: Path, peers: str) -> None:
        ours = framework == "ours"
        path = HERE.parents[1] if ours else HERE / "peers"
        self._environment = os.environ | {
            "PYTHONPATH": str(path),
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        if ours:  # as our programs start themselves
            compiled = str(folder / "compiled")
            self._environment |= {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "JAX_COMPILATION_CACHE_DIR": compiled}
            self._environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
        self._command = [sys.executable if ours else peers, str(HERE / "peers" / "worker.py"), framework, str(folder)]
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.built = self.answer()

    def restart(self) -> None:
        self.stop()
        self._start()

    def answer(self) -> dict[str, Any]:
        for line in self.process.stdout or ():
            if line.startswith("{"):  # frameworks print, too
                return json.loads(line)
        raise SystemExit(f"{self.process.args} ended")

    def run(self, what: str, batch_size: int, repeats: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"what": what, "batch_size": batch_size, "repeats": repeats}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self) -> None:
        self.process.communicate("")


def report_config(cut: int) -> ml_collections.ConfigDict:
    """`configs/report.py`, its backbone of 3 layers frozen or of 20 trained; nothing is augmented."""
    config = report.get_config()
    config.batch_size = 32
    config.model.backbone.cut = cut
    config.model.backbone.trainable = "none" if cut == 3 else "all"
    for name in ("horizontal_flip", "vertical_flip"):
        config.augmentation[name] = False
    for name in ("translation", "shear", "zoom"):
        config.augmentation[name] = 0.0
    return config


def best_config() -> ml_collections.ConfigDict:
    """`configs/best.py` without its moving average, augmented on all sides on the device."""
    config = best.get_config()
    config.optimizer.ema_decay = 0.0
    return config


def best_half_config() -> ml_collections.ConfigDict:
    """The same in bfloat16, on all sides."""
    config = best_config()
    config.model.dtype = "bfloat16"
    return config


# Networks that are measured, and what of each.
NETWORKS = {
    "frozen": lambda: report_config(3),
    "trained": lambda: report_config(20),
    "best": best_config,
    "best_half": best_half_config,
}
LOCALISED = "best"  # the network that looks at what a localiser has found
ROWS = (
    *("frozen.memory", "frozen.step", "frozen.predict"),
    "trained.step",
    *("best.memory", "best.step", "best.predict", "best.files"),
    *("best_half.step", "best_half.predict"),
)
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1}  # of outputs, relative to the largest


def start(network: str, config: ml_collections.ConfigDict, peers: str, folder: Path) -> dict[str, Worker]:
    """The three networks with the same random arrays.

    Raises:
      SystemExit: they are not the same network.
    """
    described, arrays = describe(config)
    options = described | {
        "augments": any(config.augmentation.values()),
        "batch_size": 32,
        "widths": config.model.widths,
        "blocks": config.model.blocks,
        "dropout": config.model.dropout_rate,
        "l2": config.optimizer.l2,
        "learning_rate": config.optimizer.learning_rate,
        "localiser": None,
    }
    if network == LOCALISED:
        boxes, box_arrays = describe(localiser.get_config())
        arrays |= {f"localiser/{name}": array for name, array in box_arrays.items()}
        options["localiser"] = boxes | {"width": BoxVotingHead.width, "margin": config.dataset.crop_margin}
        (folder / "photographs").mkdir()
        for i in range(32):
            photograph = Image.fromarray(synthetic.draw(5, "test", i).image).resize((512, 512))
            photograph.save(folder / f"photographs/{i:02}.jpg", quality=90)
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "network.json").write_text(json.dumps(options))
    workers = {framework: Worker(framework, folder, peers) for framework in FRAMEWORKS}
    built = {framework: worker.built for framework, worker in workers.items()}
    logits = {framework: np.array(b["logits"]) for framework, b in built.items()}
    for framework in FRAMEWORKS[1:]:
        error = np.abs(logits[framework] - logits["ours"]).max() / np.abs(logits["ours"]).max()
        print(
            f"{network}: {framework} has {built[framework]['parameters']:,} parameters; output {error:.1e}",
            file=sys.stderr,
        )
        if error > TOLERANCES[config.model.dtype] or built[framework]["parameters"] != built["ours"]["parameters"]:
            raise SystemExit(f"{framework} is another network: ours has {built['ours']['parameters']:,} parameters")
    return workers


def check_files(network: str, workers: dict[str, Worker]) -> None:
    """Raises SystemExit unless all, started anew, say the same of photographs, but for boxes rounded otherwise."""
    for worker in workers.values():
        worker.restart()  # peers may have trained theirs
    judged = {framework: np.array(worker.run("files", 4, 1)["judged"]) for framework, worker in workers.items()}
    for framework in FRAMEWORKS[1:]:
        error = np.abs(judged[framework] - judged["ours"]).max() / np.abs(judged["ours"]).max()
        print(f"{network}: {framework}, from files to logits {error:.1e}", file=sys.stderr)
        if error > 0.05:
            raise SystemExit(f"{framework} judges photographs otherwise")


def describe(config: ml_collections.ConfigDict) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A config's network as peers build it, and random arrays for it."""
    model = make_classifier(config.model.to_dict())
    size = tuple(config.dataset.image_size)
    variables = jax.jit(init_variables, static_argnums=(0, 1, 2))(model, size, 0)
    rng = np.random.default_rng(0)
    arrays = {}
    for path, leaf in traverse_util.flatten_dict(variables).items():
        array = np.asarray(leaf)
        if path[-1] in ("scale", "var"):
            array = rng.uniform(0.7, 1.3, array.shape).astype(np.float32)
        elif path[-1] in ("bias", "mean"):
            array = rng.normal(0, 0.1, array.shape).astype(np.float32)
        arrays["/".join(path)] = array
    layers = [
        layer._asdict() | {"trained": layer.stage in model.backbone.trained}
        for layer in model.backbone.architecture.layers_up_to(model.backbone.cut)
    ]
    return {"config": config.to_dict(), "backbone": layers, "size": size}, arrays


def speed(what: str, workers: dict[str, Worker], command: str, batch_size: int, rounds: int, repeats: int) -> dict:
    """A row: rounds of a few runs each, the frameworks in turn; the first round compiles and is not counted.

    Nor is the first run of a turn: it finds the processor's caches and the memory as another framework left them.
    """
    rates: dict[str, list[float]] = {framework: [] for framework in FRAMEWORKS}
    for i in range(rounds + 1):
        for framework in FRAMEWORKS:
            seconds = workers[framework].run(command, batch_size, repeats + 1)["seconds"][1:]
            if i:
                rates[framework].append(batch_size / float(np.median(seconds)))
    ratios = np.array(rates["ours"]) / np.maximum(rates["pytorch"], rates["keras"])
    return row(what, {framework: float(np.median(rate)) for framework, rate in rates.items()}, ratios)


def memory(what: str, peak: dict[str, int]) -> dict[str, Any]:
    """A row of bytes."""
    return row(what, peak, np.array([peak["ours"] / min(peak["pytorch"], peak["keras"])]))


def row(what: str, figures: dict[str, float], ratios: np.ndarray) -> dict[str, Any]:
    low, high = np.percentile(ratios, [25, 75])
    rounded = {framework: round(figure, 2) for framework, figure in figures.items()}
    return {"what": what, **rounded, "ratio": round(float(np.median(ratios)), 3), "spread": round(float(high - low), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="all if not given")
    parser.add_argument("--peers", required=True, help="Python of the environment with PyTorch and TensorFlow")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    wanted = arguments.rows or ROWS
    for network, make_config in NETWORKS.items():
        whats = [row.split(".")[1] for row in wanted if row.startswith(f"{network}.")]
        if not whats:
            continue
        with tempfile.TemporaryDirectory() as folder:
            config = make_config()
            workers = start(network, config, arguments.peers, Path(folder))
            for what in whats:
                for result in measure(what, network, config.batch_size, workers, arguments.rounds):
                    print(json.dumps(result), flush=True)
            for worker in workers.values():
                worker.stop()


def measure(
    what: str, network: str, batch_size: int, workers: dict[str, Worker], rounds: int
) -> Iterator[dict[str, Any]]:
    if what == "memory":
        title = f"{network}: peak memory, training batch {batch_size}"
        peak = {name: worker.run("train", batch_size, 4)["peak_bytes"] for name, worker in workers.items()}
        yield memory(f"{title}, first start", peak)
        workers["ours"].restart()  # finds its programs compiled
        peak["ours"] = workers["ours"].run("train", batch_size, 4)["peak_bytes"]
        yield memory(f"{title}, later starts", peak)
    elif what == "step":
        yield speed(f"{network}: step, batch {batch_size}", workers, "train", batch_size, rounds, 3)
    else:
        if what == "files":
            check_files(network, workers)
        for size, repeats in ((32, 5), (1, 20)):
            yield speed(f"{network}: {what}, batch {size}", workers, what, size, rounds, repeats)


if __name__ == "__main__":
    main()
