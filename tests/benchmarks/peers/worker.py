"""One framework in a process of its own: builds the network, answers with its output, then runs what it is told.

python worker.py FRAMEWORK FOLDER, where `compare.py` has put `network.json` and `arrays.npz`. Commands come as JSON
lines on standard input, answers go as JSON lines to standard output.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]  # uint8 images [b h w 3], int32 labels [b]


class Peer(NamedTuple):
    """A framework's network.

    Attributes:
      parameters: how many numbers it learns or keeps frozen, without running statistics.
      predict: images to logits.
      train: one step; returns when it is done.
      judge: files of photographs to logits: decode, find the cervix, crop, classify; None without a localiser.
    """

    parameters: int
    predict: Callable[[np.ndarray], np.ndarray]
    train: Callable[[Batch], None]
    judge: Callable[[Sequence[Path]], np.ndarray] | None = None


Locate = Callable[[np.ndarray], np.ndarray]  # images [b h w 3] -> boxes [b 4]: left, top, right, bottom, as fractions


def chain(predict: Callable[[np.ndarray], np.ndarray], locate: Locate, options: dict[str, Any]) -> Callable:
    """A peer's way from files to logits: decoded by two threads, as small as it may, and batched."""
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    threads = ThreadPoolExecutor(2)
    box_size, size, margin = options["localiser"]["size"], options["size"], options["localiser"]["margin"]

    def decode(path: Path, height: float, width: float) -> Image.Image:
        image = Image.open(path)
        image.draft("RGB", (int(np.ceil(width)), int(np.ceil(height))))
        return image.convert("RGB")

    def whole(path: Path) -> np.ndarray:
        return np.asarray(decode(path, *box_size).resize(box_size[::-1], Image.Resampling.BILINEAR))

    def part(pair: tuple[Path, np.ndarray]) -> np.ndarray:
        path, (left, top, right, bottom) = pair
        image = decode(path, size[0] / max(bottom - top, 1e-3), size[1] / max(right - left, 1e-3))
        columns = interval((left + right) / 2, (right - left) * (1 + 2 * margin), image.width)
        rows = interval((top + bottom) / 2, (bottom - top) * (1 + 2 * margin), image.height)
        cropped = image.crop((columns[0], rows[0], columns[1], rows[1]))
        return np.asarray(cropped.resize(size[::-1], Image.Resampling.BILINEAR))

    def judge(paths: Sequence[Path]) -> np.ndarray:
        boxes = locate(np.stack(list(threads.map(whole, paths))))
        return predict(np.stack(list(threads.map(part, zip(paths, boxes, strict=True)))))

    return judge


def interval(center: float, length: float, limit: int) -> tuple[int, int]:
    """Whole pixels of a side of a box, inside the photograph."""
    length = min(max(length * limit, 1.0), limit)
    start = min(max(center * limit - length / 2, 0.0), limit - length)
    first = min(round(start), limit - 1)
    return first, min(max(first + 1, round(start + length)), limit)


def is_half(options: Mapping[str, Any]) -> bool:
    """Whether layers compute in bfloat16; parameters are float32."""
    return options["config"]["model"]["dtype"] == "bfloat16"


def of_localiser(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = "localiser/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def ours(options: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Peer:
    import jax
    import jax.numpy as jnp
    from flax import traverse_util

    from cervix_jax import config as defaults
    from cervix_jax.images.geometry import CropResize
    from cervix_jax.models.classifier import make_classifier
    from cervix_jax.training.forward import make_forward
    from cervix_jax.training.mesh import make_mesh, replicated, shard_batch
    from cervix_jax.training.optimizer import make_optimizer
    from cervix_jax.training.state import count_parameters, create_state
    from cervix_jax.training.step import make_train_step

    config = defaults.unflatten(defaults.flatten(options["config"]))
    model, mesh = make_classifier(config.model.to_dict()), make_mesh()
    tx = make_optimizer(config, 1000)

    def as_variables(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        named = {tuple(name.split("/")): jnp.asarray(a) for name, a in arrays.items()}
        return {"constants": {}} | traverse_util.unflatten_dict(named)

    variables = as_variables({name: array for name, array in arrays.items() if not name.startswith("localiser/")})
    forward, step = make_forward(model), make_train_step(model, tx, config, mesh)
    state = jax.device_put(create_state(jax.tree.map(jnp.copy, variables), tx, model.trained_layers), replicated(mesh))

    def train(batch: Batch) -> None:
        nonlocal state
        images, labels = batch
        rows = {"index": np.arange(len(labels), dtype=np.int32), "mask": np.ones(len(labels), bool)}
        state = step(state, shard_batch({"image": images, "label": labels} | rows, mesh))
        jax.block_until_ready(state)

    def predict(images: np.ndarray) -> np.ndarray:
        return np.asarray(forward(variables, images))

    judge = None
    if options["localiser"]:
        from concurrent.futures import ThreadPoolExecutor

        from cervix_jax.inference.photograph import NetworkInput, Photograph
        from cervix_jax.training.localiser import Localiser

        box_config = defaults.unflatten(defaults.flatten(options["localiser"]["config"]))
        box_model = make_classifier(box_config.model.to_dict())
        localiser = Localiser(box_config, {}, box_model, as_variables(of_localiser(arrays)))
        inputs, threads = [NetworkInput(CropResize.from_config(config.dataset), localiser)], ThreadPoolExecutor(2)

        def judge(paths: Sequence[Path]) -> np.ndarray:
            photographs = threads.map(lambda path: Photograph.read(path, inputs), paths)
            return predict(np.stack([photograph.images[0] for photograph in photographs]))

    return Peer(count_parameters(variables["params"]), predict, train, judge)


def pytorch(options: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Peer:
    import torch
    from torch.nn import functional as F
    from torch_network import BoxVoting, Network, augment, load, load_boxes

    network = Network(options["backbone"], options["widths"], options["blocks"], options["dropout"])
    load(network, arrays)
    network = network.to(memory_format=torch.channels_last)
    half = torch.autocast("cpu", torch.bfloat16, enabled=is_half(options))
    trained = [p for p in network.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trained, options["learning_rate"], eps=1e-8)
    kernels, rng = [p for p in trained if p.ndim > 1], np.random.default_rng(0)

    def tensor(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images).permute(0, 3, 1, 2).float()

    def predict(images: np.ndarray) -> np.ndarray:
        network.eval()
        with torch.inference_mode(), half:
            return network(tensor(images)).float().numpy()

    def train(batch: Batch) -> None:
        images, labels = tensor(batch[0]), torch.from_numpy(batch[1]).long()
        if options["augments"]:
            images = augment(images, random_affines(rng, len(images), options["size"]))
        network.train()
        adam.zero_grad(set_to_none=True)
        with half:
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels)
        (loss + options["l2"] * sum((kernel**2).sum() for kernel in kernels)).backward()
        adam.step()

    judge = None
    if options["localiser"]:
        boxes = BoxVoting(options["localiser"]["backbone"], options["localiser"]["width"])
        load_boxes(boxes, of_localiser(arrays))
        boxes = boxes.to(memory_format=torch.channels_last).eval()

        def locate(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return boxes(tensor(images)).numpy()

        judge = chain(predict, locate, options)
    return Peer(sum(p.numel() for p in network.parameters()), predict, train, judge)


def keras(options: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Peer:
    import keras as k
    from keras_network import augment, box_network, load, network

    size, widths, blocks = options["size"], options["widths"], options["blocks"]
    k.config.set_dtype_policy("mixed_bfloat16" if is_half(options) else "float32")
    model = network(tuple(size), options["backbone"], widths, blocks, options["dropout"], options["l2"])
    load(model, arrays)
    rng = np.random.default_rng(0)
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(k.optimizers.Adam(options["learning_rate"], epsilon=1e-8), loss, jit_compile=False)
    statistics = sum(int(np.prod(v.shape)) for v in model.variables if v.path.split("/")[-1].startswith("moving_"))

    def train(batch: Batch) -> None:
        images = batch[0].astype(np.float32)
        if options["augments"]:
            images = augment(images, random_affines(rng, len(images), options["size"]))
        model.train_on_batch(images, batch[1])

    def predict(images: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict_on_batch(images.astype(np.float32)))

    judge = None
    if options["localiser"]:
        of_boxes = options["localiser"]
        boxes = box_network(tuple(of_boxes["size"]), of_boxes["backbone"], of_boxes["width"])
        load(boxes, of_localiser(arrays))
        judge = chain(predict, lambda images: np.asarray(boxes.predict_on_batch(images.astype(np.float32))), options)
    return Peer(model.count_params() - statistics, predict, train, judge)


def random_affines(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """Flips, shifts, shears and zooms like those of `training.augmentation`, [b 2 3]."""
    flips = rng.choice([-1.0, 1.0], (count, 2))
    affines = flips[:, :, None] * np.eye(2)
    affines[:, :, 0] += affines[:, :, 1] * rng.uniform(-0.1, 0.1, (count, 1))
    affines /= rng.uniform(0.9, 1.1, (count, 1, 1))
    shifts = rng.uniform(-0.1, 0.1, (count, 2)) * size
    return np.concatenate([affines, shifts[:, :, None]], axis=2).astype(np.float32)


def main(framework: str, folder: Path) -> None:
    options = json.loads((folder / "network.json").read_text())
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    peer = {"ours": ours, "pytorch": pytorch, "keras": keras}[framework](options, arrays)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options["batch_size"], *options["size"], 3), dtype=np.uint8)
    labels = rng.integers(0, 3, options["batch_size"], dtype=np.int32)
    paths = sorted((folder / "photographs").glob("*.jpg"))
    built = {"parameters": peer.parameters, "logits": peer.predict(images[:2]).tolist()}
    print(json.dumps(built), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        size, seconds, judged = command["batch_size"], [], []
        for _ in range(command["repeats"]):
            start = time.perf_counter()
            if command["what"] == "train":
                peer.train((images[:size], labels[:size]))
            elif command["what"] == "predict":
                peer.predict(images[:size])
            else:
                judged = peer.judge(paths[:size]).tolist()
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak, "judged": judged}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
