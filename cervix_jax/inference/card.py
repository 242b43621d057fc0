"""The model card: what a run is, what it is for, how good it is and where it fails (Mitchell et al. 2019)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cervix_jax.images.decode import STORED_SIZE
from cervix_jax.inference import localiser_card
from cervix_jax.inference.calibration import COVERAGES, Calibration
from cervix_jax.inference.conformal import set_threshold
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.site_calibration import SiteCalibration

TASK = "Type of the transformation zone of the cervix, from a photograph of it."
INTENDED_USE = "Research on telling the types of transformation zone by photographs, and teaching."
NOT_FOR = (
    "Not for clinical decisions: not a medical device, not validated prospectively or at any other hospital. In "
    "particular no ablation may rest on it, which only a fully visible zone of type 1 permits (WHO 2021)."
)
LIMITATIONS = (
    "Validation photographs are of the same source as those it was trained on, and the epoch was chosen by them.",
    "Labels are one judgement of each photograph; the types are hard to tell for experts, too.",
    "It gives probabilities for any picture, whatever that shows. Photographs that are blurred, dark or unlike those "
    "it was trained on are flagged by `predict`, not by the exported function.",
    "Prediction sets and thresholds hold on average over photographs like those of the reference, not for a type, a "
    "hospital or a woman.",
)
_METRIC_NAMES = {
    "loss": "cross-entropy (nats)",
    "accuracy": "accuracy",
    "kappa": "Cohen's kappa",
    "auroc": "AUROC, one against the rest",
    "unsafe_rate": "types 2 and 3 called type 1",
    "1_called_3": "type 1 called type 3",
    "3_called_1": "type 3 called type 1",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "aurc": "area under risk-coverage",
}


def describe(
    predictor: Predictor, record: Mapping[str, Any], metrics: Mapping[str, Any], num_parameters: int
) -> dict[str, Any]:
    """The card, ready for JSON.

    Args:
      predictor: with the calibration that is exported, if any.
      record: `run.json` of the (first) run.
      metrics: `inference.evaluation.evaluate` of the validation split.
      num_parameters: numbers in the weights.
    """
    member, transform, calibration = predictor.members[0], predictor.members[0].transform, predictor.calibration
    scalars = [name for name in metrics["intervals"] if metrics.get(name) is not None]
    return {
        "name": predictor.name if len(predictor.members) > 1 else member.workdir.resolve().name,
        "runs": len(predictor.members),
        "combined_by": predictor.rule if len(predictor.members) > 1 else None,
        "task": TASK,
        "classes": list(predictor.class_names),
        "intended_use": INTENDED_USE,
        "not_for": NOT_FOR,
        "limitations": list(LIMITATIONS),
        "input": {
            "image_size": list(transform.size),
            "crop": transform.crop if member.localiser is None else None,
            "localiser": None
            if member.localiser is None
            else localiser_card.describe_input(member.localiser)
            | {"margin": transform.margin, "number": len(predictor.network_inputs)},
            "resize": transform.resize,
            "stored_size": list(STORED_SIZE),
            "pixels": "uint8 RGB (sRGB), upright; the function normalises them itself",
            "how": "larger photographs first shrink until both sides are at least, and one is, stored_size (height, "
            "width), as JPEG of quality 95; a JPEG is decoded at the smallest of 1/2, 1/4 and 1/8 of its size that is "
            "at least image_size over the fraction of each side that is kept (Pillow's draft): `crop`, or the "
            "localiser's box with the margin on each side (a fraction of it); resize is bilinear with antialiasing",
        },
        "output": "float32 probabilities, a column a class" + (", calibrated" if calibration else ", not calibrated"),
        "preprocessing": member.record["preprocessing"],
        "test_time_augmentation": list(predictor.augmentations),
        "temperature": calibration.temperature if calibration else None,
        "set_thresholds": _set_thresholds(calibration),
        "site": _site(calibration),
        "model": member.config.model.to_dict(),
        "parameters": num_parameters,
        "weights": member.weights,
        "epoch": member.record["epoch"],
        "data": {
            "name": member.config.dataset.name,
            "fingerprint": member.record["data_fingerprint"],
            "selection": member.config.selection.to_dict(),
            "class_shares": member.record["class_shares"],
        },
        "metrics": {
            "split": "out-of-fold" if predictor.is_cross_validated else "validation",
            "num_examples": metrics["num_examples"],
            "confusion_matrix": metrics["confusion_matrix"],
            **{name: {"value": metrics[name], "interval": metrics["intervals"][name]} for name in scalars},
            "calibrated": metrics.get("calibrated") if calibration else None,
        },
        "versions": record["versions"],
        "exported": datetime.now(UTC).date().isoformat(),
    }


def _site(calibration: Calibration | None) -> dict[str, Any] | None:
    """What was measured, cross-fitted, at the site that the calibration is for."""
    if not isinstance(calibration, SiteCalibration):
        return None
    names = ("photographs", "groups", "scaling", "asked", "after", "intervals", "decision")
    return {name: calibration.measured.get(name) for name in names}


def _set_thresholds(calibration: Calibration | None) -> dict[str, float] | None:
    """By coverage, the least probability of a type that is in the set; the likeliest is in it anyhow."""
    if calibration is None:
        return None
    reference = calibration.probabilities, calibration.labels
    return {str(c): set_threshold(*reference, c, calibration.groups) for c in COVERAGES}


def render(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    metrics, data = card["metrics"], card["data"]
    rows = [
        f"| {_METRIC_NAMES.get(name, name)} | {row['value']:.3f} | {_interval(row['interval'])} |"
        for name, row in metrics.items()
        if isinstance(row, Mapping) and "interval" in row
    ]
    calibrated = metrics["calibrated"]
    lines = [
        f"# {card['name']}",
        "",
        card["task"] + f" Classes: {', '.join(card['classes'])}.",
        "",
        f"**{card['not_for']}**",
        "",
        f"Intended use: {card['intended_use']}",
        "",
        "## Numbers",
        "",
        f"On {metrics['num_examples']} photographs of `{data['name']}`, {_held_out(card)}, uncalibrated; "
        "95 % intervals by bootstrap over photographs:",
        "",
        "| | value | 95 % interval |",
        "|---|---|---|",
        *rows,
        "",
        f"Confusion matrix, rows true: `{metrics['confusion_matrix']}`.",
        "",
    ]
    if calibrated:
        before, after = calibrated["before"], calibrated["after"]
        lines += [
            f"Temperature {calibrated['temperature']:.3f}. On {calibrated['num_examples']} photographs that it was not "
            f"fitted on, cross-entropy is {before['loss']:.3f} before and {after['loss']:.3f} after, expected "
            f"calibration error {before['ece']:.3f} and {after['ece']:.3f}.",
            "",
            "| asked for coverage | got | mean size | sets of one type | of which err |",
            "|---|---|---|---|---|",
            *(
                f"| {coverage} | {row['coverage']:.3f} | {row['mean_size']:.2f} | {row['singletons']:.0%} | "
                + ("- |" if row["singleton_error"] is None else f"{row['singleton_error']:.3f} |")
                for coverage, row in calibrated["sets"].items()
            ),
            "",
        ]
    if site := card["site"]:
        after, asked = site["after"], site["asked"]
        lines += [
            f"The function is calibrated ({site['scaling']}) for a site, by {site['photographs']} photographs of "
            f"{site['groups']} cases there. Cross-fitted, cross-entropy is {after['loss']:.3f} there, kappa "
            f"{after['kappa']:.2f}, and sets of {asked['coverage']:.0%} hold {after['coverage']:.1%}; what was "
            f"advised: {site['decision']}.",
            "",
        ]
    lines += [
        "## Limitations",
        "",
        *(f"- {limitation}" for limitation in card["limitations"]),
        "",
        "## Use",
        "",
        *_code(card),
        f"Photographs, in general: {card['input']['how']} (here "
        + ("by the localiser" if card["input"]["localiser"] else f"crop {card['input']['crop']:g}")
        + f", resize {card['input']['resize']}).",
        "",
        f"{card['parameters']:,} numbers, epoch {card['epoch']}, weights {card['weights']}; trained with "
        + ", ".join(f"{name} {version}" for name, version in card["versions"].items())
        + f"; exported on {card['exported']}.",
    ]
    return "\n".join(lines) + "\n"


def _held_out(card: Mapping[str, Any]) -> str:
    selection = card["data"]["selection"]
    if card["metrics"]["split"] == "out-of-fold":
        runs = card["runs"]
        return f"each by the run of the fold (of {selection['folds']}) that held it out, not by the mean of {runs} runs"
    of_runs = f" of all {card['runs']} runs" if card["runs"] > 1 else ""
    return f"the validation split{of_runs} (fold {selection['fold']} of {selection['folds']})"


def _code(card: Mapping[str, Any]) -> list[str]:
    """Python that calls the function, and reads photographs for it where that takes a few lines."""
    height, width = card["input"]["image_size"]
    high, wide = card["input"]["stored_size"]
    localiser = card["input"]["localiser"]
    load = [
        'predict = jax.export.deserialize(bytearray(open("predict.jax_export", "rb").read())).call',
        'weights = safetensors.numpy.load_file("model.safetensors")',
    ]
    resizes = {card["input"]["resize"], *([localiser["resize"]] if localiser else [])}
    check = "assert numpy.isfinite(probabilities).all()"
    if (not localiser and card["input"]["crop"] != 1) or resizes != {"stretch"}:
        several = f"{localiser['number']}, " if localiser and localiser["number"] > 1 else ""
        call = f"probabilities = predict(weights, images)  # uint8 [b, {several}{height}, {width}, 3]"
        return ["```python", "import jax.export, numpy, safetensors.numpy", "", *load, call, check, "```", ""]
    return [
        "For sRGB photographs these are the numbers of `predict`:",
        "",
        "```python",
        "import io, jax.export, numpy, safetensors.numpy",
        "from PIL import Image, ImageOps",
        "",
        *_read_stored(high, wide),
        "",
        *(_read_cropped(localiser, height, width) if localiser else _read_whole(height, width)),
        "",
        *load,
        "probabilities = predict(weights, numpy.stack([read(path) for path in paths]))",
        check,
        "```",
        "",
    ]


def _read_stored(height: int, width: int) -> list[str]:
    """What `images.decode.to_stored` does."""
    return [
        "def stored(path):  # photographs that are larger, on their side or no JPEG are encoded anew",
        "    original = Image.open(path)",
        "    orientation = original.getexif().get(274, 1)",
        "    wide, high = original.size if orientation < 5 else original.size[::-1]",
        f"    scale = min(1, max({height} / high, {width} / wide))",
        '    if scale == 1 and orientation == 1 and original.format == "JPEG":',
        "        return path",
        f'    original.draft("RGB", ({width}, {height}) if orientation < 5 else ({height}, {width}))',
        '    image = ImageOps.exif_transpose(original).convert("RGB")',
        "    size, out = (round(wide * scale), round(high * scale)), io.BytesIO()",
        '    image.resize(size, Image.Resampling.BILINEAR).save(out, "JPEG", quality=95)',
        "    return out",
    ]


def _read_whole(height: int, width: int) -> list[str]:
    return [
        "def read(path):",
        "    image = Image.open(stored(path))",
        f'    image.draft("RGB", ({width}, {height}))',
        f'    return numpy.asarray(image.convert("RGB").resize(({width}, {height}), Image.Resampling.BILINEAR))',
    ]


def _read_cropped(localiser: Mapping[str, Any], height: int, width: int) -> list[str]:
    high, wide = localiser["image_size"]
    margin, number = localiser["margin"], localiser["number"]
    files = '"localiser.safetensors"' if number == 1 else 'f"localiser_{i}/localiser.safetensors"'
    count = number if number > 1 else 1
    return [
        'locate = jax.export.deserialize(bytearray(open("locate.jax_export", "rb").read())).call',
        f"localisers = [safetensors.numpy.load_file({files}) for i in range({count})]",
        "",
        "def pixels(file, size, min_size, box=None):",
        "    image = Image.open(file)",
        '    image.draft("RGB", min_size)',
        '    image = image.convert("RGB")',
        "    if box is not None:",
        "        (left, right), (top, bottom) = interval(*box[::2], image.width), interval(*box[1::2], image.height)",
        "        image = image.crop((left, top, right, bottom))",
        "    return numpy.asarray(image.resize(size, Image.Resampling.BILINEAR))",
        "",
        "def interval(low, high, limit):",
        f"    length = min(max((high - low) * limit * {1 + 2 * margin:g}, 1), limit)",
        "    start = min(max((low + high) / 2 * limit - length / 2, 0), limit - length)",
        "    first = min(round(start), limit - 1)",
        "    return first, min(max(first + 1, round(start + length)), limit)",
        "",
        "def crop(file, localiser):",
        f"    whole = pixels(file, ({wide}, {high}), ({wide}, {high}))",
        "    left, top, right, bottom, confidence = locate(localiser, whole[None])[0].tolist()",
        f"    min_size = (-int(-{width} // max(right - left, 1e-3)), -int(-{height} // max(bottom - top, 1e-3)))",
        f"    return pixels(file, ({width}, {height}), min_size, (left, top, right, bottom))",
        "",
        "def read(path):",
        "    file = stored(path)",
        "    return "
        + ("crop(file, localisers[0])" if count == 1 else "numpy.stack([crop(file, each) for each in localisers])"),
    ]


def _interval(interval: list[float | None]) -> str:
    low, high = interval
    return f"{low:.3f} to {high:.3f}" if low is not None and high is not None else "-"
