"""Damages files: bytes of any, words of texts, values of JSON, arrays of NPZ and safetensors in a whole frame."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.images.test_hostile_photographs import mutated

Mutation = Callable[[bytes, np.random.Generator], bytes]

NUMBERS = ["NaN", "inf", "-1", "0", "1e999", "9" * 30, "9" * 400, "-0.0", "1e-320", "0x10", "", " ", "''", "1;2", "½"]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\ud800",
    [],
    {},
    [[1]],
    [{}],
]


def text(raw: bytes, rng: np.random.Generator) -> bytes:
    """Replaces, repeats or drops words, or lines; or as `mutated`."""
    kind = rng.choice(["word", "word", "line", "bytes"])
    if kind == "bytes":
        return mutated(raw, rng)
    if kind == "line":
        lines = raw.splitlines(keepends=True) or [b""]
        i, j = (int(k) for k in rng.integers(len(lines), size=2))
        changed = [lines[:i] + lines[i + 1 :], [*lines[:i], lines[j], *lines[i:]], [*lines[:i], lines[i].strip()]]
        return b"".join(changed[rng.integers(3)])
    words = list(re.finditer(rb"[\w.+-]+", raw))
    if not words:
        return mutated(raw, rng)
    start, end = words[rng.integers(len(words))].span()
    return raw[:start] + str(rng.choice(NUMBERS)).encode() + raw[end:]


def value(raw: bytes, rng: np.random.Generator) -> bytes:
    """Replaces or drops a value of a JSON text; nests it deeply; or as `text`."""
    kind = rng.choice(["replace", "replace", "drop", "deep", "text"], p=[0.35, 0.2, 0.2, 0.05, 0.2])
    lines = raw.splitlines() if raw.count(b"\n{") else [raw]  # of JSON, or one JSON
    i = int(rng.integers(len(lines)))
    try:
        content = json.loads(lines[i])
    except ValueError:
        kind = "text"
    if kind == "text":
        return text(raw, rng)
    if kind == "deep":
        lines[i] = b'{"a":' * 50_000
        return b"\n".join(lines)
    parent, key = rng_choice(places(content), rng)
    if parent is None:
        content = rng_choice(VALUES, rng)
    elif kind == "replace":
        parent[key] = rng_choice(VALUES, rng)
    else:
        del parent[key]
    lines[i] = json.dumps(content).encode()
    return b"\n".join(lines)


def archive(raw: bytes, rng: np.random.Generator) -> bytes:
    """Changes an array of an NPZ, whose checksums are made anew; or as `mutated`."""
    if rng.random() < 0.4:
        return mutated(raw, rng)
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    name = rng_choice(sorted(members), rng)
    kind = rng.choice(["header", "drop", "array", "array", "object", "bytes"])
    if kind == "drop":
        del members[name]
    elif kind == "bytes":
        members[name] = mutated(members[name], rng)
    elif kind == "header":
        sizes = [b"(1000000000000,)", b"(-1,)", b"()", b"(0, 0)", b"(2, 2)"]
        members[name] = re.sub(rb"\([\d, ]*\)", sizes[rng.integers(5)], members[name], count=1)
    else:
        array = np.load(io.BytesIO(members[name]))
        out = io.BytesIO()
        np.save(out, np.array([{}], object) if kind == "object" else other_array(array, rng), allow_pickle=True)
        members[name] = out.getvalue()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def tensors(raw: bytes, rng: np.random.Generator) -> bytes:
    """Changes the header of a safetensors file, whose length is made anew; or as `mutated`."""
    if rng.random() < 0.4:
        return mutated(raw, rng)
    length = int.from_bytes(raw[:8], "little")
    header = value(raw[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + raw[8 + length :]


def other_array(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of other values, another shape or another type."""
    kind = rng.choice(["nan", "inf", "short", "flat", "deep", "type", "text", "zero", "negative"])
    is_number = array.dtype.kind in "fiu" and array.size
    if kind in ("nan", "inf") and array.dtype.kind == "f" and array.size:
        array = array.copy()
        array.flat[rng.integers(array.size)] = np.nan if kind == "nan" else np.inf
    elif kind == "zero" and is_number:
        array = np.zeros_like(array)
    elif kind == "negative" and is_number:
        array = array * -1
    elif kind == "type":
        array = array.astype("U" if array.dtype.kind in "fiu" else "S", copy=False)
    elif kind == "text":
        array = np.array("x")
    elif kind == "deep":
        array = array[None]
    elif kind == "short" and array.ndim:
        array = array[: len(array) // 2]
    else:
        array = array.reshape(-1)
    return array


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every value inside of JSON: its container and its key there; the first is the whole."""
    found: list[tuple[Any, Any]] = [(None, None)]
    waiting = [content]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
        found += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    return found


def rng_choice(values: Any, rng: np.random.Generator) -> Any:
    return values[int(rng.integers(len(values)))]
