"""The model card of a localiser, and Python that finds and crops to boxes without this software."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cervix_jax.training.localiser import Localiser
from cervix_jax.training.state import flatten_variables

TASK = "The box around the cervix in a photograph of it."
INTENDED_USE = "Research: cropping photographs before other models see them."
NOT_FOR = "Not for clinical decisions: not a medical device, not validated at any other hospital."
LIMITATIONS = (
    "It gives a box for any picture; a low confidence says that there may be no cervix in it.",
    "Its boxes follow the convention of the person who drew those that it learned from.",
)
_METRICS = ("mean_iou", "median_iou", "iou_above_0.5", "iou_above_0.7", "center_error", "confidence_error")


def describe(localiser: Localiser, name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The card, ready for JSON.

    Args:
      localiser: what is described.
      name: of its work directory.
      metrics: `localisation.evaluate_boxes` of the validation split.
    """
    config = localiser.config
    return {
        "name": name,
        "task": TASK,
        "intended_use": INTENDED_USE,
        "not_for": NOT_FOR,
        "limitations": list(LIMITATIONS),
        "input": describe_input(localiser),
        "output": "float32 [b 5]: left, top, right, bottom as fractions of the photograph; expected IoU",
        "preprocessing": localiser.model.preprocessing,
        "model": config.model.to_dict(),
        "parameters": sum(x.size for x in flatten_variables(localiser.variables).values()),
        "epoch": localiser.record["epoch"],
        "data": {
            "name": config.dataset.name,
            "annotator": config.dataset.annotator,
            "fingerprint": localiser.record["data_fingerprint"],
            "selection": config.selection.to_dict(),
        },
        "metrics": {
            "split": "validation",
            "num_examples": metrics["num_examples"],
            **{key: {"value": metrics[key], "interval": metrics["intervals"][key]} for key in _METRICS},
            "by_type": metrics["by_type"],
        },
        "exported": datetime.now(UTC).date().isoformat(),
    }


def describe_input(localiser: Localiser) -> dict[str, Any]:
    """What a localiser is shown."""
    transform = localiser.transform
    return {
        "image_size": list(transform.size),
        "resize": transform.resize,
        "pixels": "uint8 RGB (sRGB), the whole upright photograph",
    }


def render(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    metrics, data = card["metrics"], card["data"]
    rows = [
        f"| {name} | {row['value']:.3f} | {row['interval'][0]:.3f} to {row['interval'][1]:.3f} |"
        for name, row in metrics.items()
        if name in _METRICS
    ]
    lines = [
        f"# {card['name']}",
        "",
        card["task"],
        "",
        f"**{card['not_for']}**",
        "",
        f"Intended use: {card['intended_use']}",
        "",
        "## Numbers",
        "",
        f"On {metrics['num_examples']} validation photographs of `{data['name']}` (fold {data['selection']['fold']} of "
        f"{data['selection']['folds']}); 95 % intervals by bootstrap over photographs:",
        "",
        "| | value | 95 % interval |",
        "|---|---|---|",
        *rows,
        "",
        "## Limitations",
        "",
        *(f"- {limitation}" for limitation in card["limitations"]),
        "",
        "## Use",
        "",
        *usage(card["input"]),
        f"{card['parameters']:,} numbers, epoch {card['epoch']}; exported on {card['exported']}.",
    ]
    return "\n".join(lines) + "\n"


def usage(shown: Mapping[str, Any]) -> list[str]:
    """Markdown that shows how the exported function is called.

    Args:
      shown: by `describe_input`.
    """
    height, width = shown["image_size"]
    return [
        "```python",
        "import jax.export, safetensors.numpy",
        "",
        'locate = jax.export.deserialize(bytearray(open("locate.jax_export", "rb").read())).call',
        'weights = safetensors.numpy.load_file("localiser.safetensors")',
        f"boxes = locate(weights, images)  # uint8 [b, {height}, {width}, 3]",
        "```",
        "",
    ]
