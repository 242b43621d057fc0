"""Converts an exported run to ONNX and checks it with onnxruntime against the export; launch/onnx.sh runs it.

Reads `card.json` and `model.safetensors` and writes `model.onnx` beside them: uint8 images [b, h, w, 3] to calibrated
float32 probabilities [b, k], for any b.
"""

import json
import logging
import sys
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
from flax import traverse_util
from jax2onnx import to_onnx

from cervix_jax.models.classifier import make_classifier

TOLERANCE = 1e-3  # largest difference of the logarithm of a probability: where these are near 0 and 1, too


def main(folder: Path) -> None:
    """Converts the export in a folder; exits with a message if its probabilities differ from the export's."""
    card = json.loads((folder / "card.json").read_text())
    if card["test_time_augmentation"]:
        raise SystemExit("an export with test-time augmentation cannot be converted")
    if card["runs"] > 1:
        raise SystemExit("an export of several runs cannot be converted; export one of them")
    if (card["site"] or {}).get("scaling") == "vector":
        raise SystemExit("an export with a site's vector scaling cannot be converted; export it without --site")
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    collections = traverse_util.unflatten_dict({tuple(name.split("/")): x for name, x in weights.items()})
    variables = {name: collections.get(name, {}) for name in ("params", "batch_stats", "constants")}
    model = make_classifier(card["model"], len(card["classes"]))
    temperature = card["temperature"] or 1.0

    def serve(images: jax.Array) -> jax.Array:
        return jax.nn.softmax(model.apply(variables, images.astype(jnp.float32))[0] / temperature)

    logging.disable(logging.WARNING)  # jax2onnx logs a line for every dynamic shape
    jax.lax.platform_dependent = lambda *arguments, default, **_: default(*arguments)  # jax2onnx knows no platforms
    size = card["input"]["image_size"]
    path = folder / "model.onnx"
    to_onnx(
        serve,
        inputs=[jax.ShapeDtypeStruct(("B", *size, 3), jnp.uint8)],
        return_mode="file",
        output_path=str(path),
        input_names=["images"],
        output_names=["probabilities"],
    )
    onnx_model = onnx.load(path)
    path.with_name(path.name + ".data").unlink(missing_ok=True)
    onnx.save(onnx_model, path)  # weights in the same file
    session = onnxruntime.InferenceSession(str(path))
    exported = jax.export.deserialize(bytearray((folder / "predict.jax_export").read_bytes()))
    rng = np.random.default_rng(0)
    errors = {}
    for batch_size in (1, 3, 8):
        images = rng.integers(0, 256, (batch_size, *size, 3), dtype=np.uint8)
        (probabilities,) = session.run(None, {session.get_inputs()[0].name: images})
        expected = np.asarray(exported.call(weights, images))
        logs = [np.log(np.maximum(p, np.finfo(np.float32).tiny)) for p in (probabilities, expected)]
        errors[batch_size] = float(np.abs(logs[0] - logs[1]).max())
    if max(errors.values()) > TOLERANCE:
        raise SystemExit(f"{path} differs from predict.jax_export: {errors}")
    print(json.dumps({"onnx": str(path), "bytes": path.stat().st_size, "largest_log_difference": errors}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
