"""Ours against the same networks in PyTorch (channels last) and Keras on TensorFlow, in turn, on the same inputs.

tests/benchmarks/compare.sh [step] [finetune] [predict] [memory]

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
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from cervix_jax.models.classifier import make_classifier
from cervix_jax.training.initialisation import init_variables
from configs import report

HERE = Path(__file__).parent
FRAMEWORKS = ("ours", "pytorch", "keras")
BATCH_SIZE = 32
SIZE = (320, 240)
CUTS = {"frozen": 3, "trained": 20}


class Worker:
    """A framework's network in a process."""

    def __init__(self, framework: str, folder: Path, peers: str) -> None:
        python = sys.executable if framework == "ours" else peers
        path = HERE.parents[1] if framework == "ours" else HERE / "peers"
        environment = os.environ | {"PYTHONPATH": str(path), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        if framework == "ours":  # as our programs start themselves
            environment |= {
                "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
                "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            }
        self.process = subprocess.Popen(
            [python, HERE / "peers" / "worker.py", framework, folder],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.built = self.answer()

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


def network_config(cut: str) -> Any:
    """`configs/report.py`; nothing is augmented, since the peers would do that on the host."""
    config = report.get_config()
    config.batch_size = BATCH_SIZE
    config.model.backbone.cut = CUTS[cut]
    config.model.backbone.trainable = {"frozen": "none", "trained": "all"}[cut]
    for name in ("horizontal_flip", "vertical_flip"):
        config.augmentation[name] = False
    for name in ("translation", "shear", "zoom"):
        config.augmentation[name] = 0.0
    return config


def start(cut: str, peers: str, folder: Path) -> dict[str, Worker]:
    """The three networks with the same random arrays.

    Raises:
      SystemExit: they are not the same network.
    """
    config = network_config(cut)
    model = make_classifier(config.model.to_dict())
    variables = jax.jit(init_variables, static_argnums=(0, 1, 2))(model, SIZE, 0)
    rng = np.random.default_rng(0)
    arrays = {}
    for path, leaf in traverse_util.flatten_dict(variables).items():
        array = np.asarray(leaf)
        if path[-1] in ("scale", "var"):
            array = rng.uniform(0.7, 1.3, array.shape).astype(np.float32)
        elif path[-1] in ("bias", "mean"):
            array = rng.normal(0, 0.1, array.shape).astype(np.float32)
        arrays["/".join(path)] = array
    np.savez(folder / "arrays.npz", **arrays)
    options = {
        "config": config.to_dict(),
        "cut": CUTS[cut],
        "size": SIZE,
        "batch_size": BATCH_SIZE,
        "widths": config.model.widths,
        "blocks": config.model.blocks,
        "dropout": config.model.dropout_rate,
        "l2": config.optimizer.l2,
        "learning_rate": config.optimizer.learning_rate,
    }
    (folder / "network.json").write_text(json.dumps(options))
    workers = {framework: Worker(framework, folder, peers) for framework in FRAMEWORKS}
    built = {framework: worker.built for framework, worker in workers.items()}
    logits = {framework: np.array(b["logits"]) for framework, b in built.items()}
    for framework in FRAMEWORKS[1:]:
        error = np.abs(logits[framework] - logits["ours"]).max() / np.abs(logits["ours"]).max()
        print(
            f"{cut}: {framework} has {built[framework]['parameters']:,} parameters; output {error:.1e}", file=sys.stderr
        )
        if error > 1e-4 or built[framework]["parameters"] != built["ours"]["parameters"]:
            raise SystemExit(f"{framework} is another network: ours has {built['ours']['parameters']:,} parameters")
    return workers


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
    parser.add_argument("what", nargs="*", help="step, finetune, predict, memory; all if not given")
    parser.add_argument("--peers", required=True, help="Python of the environment with PyTorch and TensorFlow")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    what = arguments.what or ["memory", "step", "predict", "finetune"]
    for cut, wanted in (("frozen", {"memory", "step", "predict"}), ("trained", {"finetune"})):
        if not wanted & set(what):
            continue
        with tempfile.TemporaryDirectory() as folder:
            workers = start(cut, arguments.peers, Path(folder))
            if "memory" in what and cut == "frozen":
                peak = {name: worker.run("train", BATCH_SIZE, 4)["peak_bytes"] for name, worker in workers.items()}
                print(json.dumps(memory("peak memory, training batch 32, first start", peak)), flush=True)
                workers["ours"].stop()
                workers["ours"] = Worker("ours", Path(folder), arguments.peers)  # finds its programs compiled
                peak["ours"] = workers["ours"].run("train", BATCH_SIZE, 4)["peak_bytes"]
                print(json.dumps(memory("peak memory, training batch 32, later starts", peak)), flush=True)
            if "step" in what and cut == "frozen":
                result = speed("step, batch 32", workers, "train", BATCH_SIZE, arguments.rounds, 3)
                print(json.dumps(result), flush=True)
            if "finetune" in what and cut == "trained":
                result = speed("step, batch 32, 20 layers trained", workers, "train", BATCH_SIZE, arguments.rounds, 2)
                print(json.dumps(result), flush=True)
            if "predict" in what and cut == "frozen":
                for size, repeats in ((32, 5), (1, 20)):
                    result = speed(f"predict, batch {size}", workers, "predict", size, arguments.rounds, repeats)
                    print(json.dumps(result), flush=True)
            for worker in workers.values():
                worker.stop()


if __name__ == "__main__":
    main()
