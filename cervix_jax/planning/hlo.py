"""Parses a compiled program for its collectives and for its traffic to a device's memory.

XLA's own count of bytes is useless for the latter: it is 676 GB for the report's step on TPU, where all arrays of the
program together have 5. So the scheduled HLO text is parsed: each instruction reads its operands and writes its result,
unless they stay in memory on the chip (layouts with `S(n)`).
"""

import dataclasses
import re
from collections.abc import Iterator
from functools import cached_property

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "f8": 8, "bf16": 16} | {f"{kind}{n}": n for kind in "suf" for n in (2, 4, 8, 16, 32, 64)}
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
_INSTRUCTION = re.compile(r"\s*(ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)")
_ARRAY = re.compile(r"([a-z]+\d*)(?:e\d\w*)?\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"\b(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective operation.

    Attributes:
      kind: one of `COLLECTIVES`.
      arrays: number of its operands.
      bytes: of the operands on one device.
      times: number of times that the program runs it.
    """

    kind: str
    arrays: int
    bytes: int
    times: int


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @property
    def accesses_memory(self) -> bool:
        """Whether it accesses memory: not if it only renames an array, or waits for an earlier instruction."""
        return self.operation not in _FREE and not self.operation.endswith("-done")


class Program:
    """A compiled program, parsed from its text (`jax.stages.Compiled.as_text`)."""

    def __init__(self, text: str):
        self._computations: dict[str, dict[str, _Instruction]] = {}
        self._entry = ""
        current: dict[str, _Instruction] = {}
        for line in text.splitlines():
            if line.endswith("{") and not line.startswith((" ", "HloModule")):
                name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
                current = self._computations[name] = {}
                if line.startswith("ENTRY "):
                    self._entry = name
            elif match := _INSTRUCTION.match(line):
                root, name, shape, operation, rest = match.groups()
                operands = tuple(re.findall(r"%([\w.-]+)", rest.split(")", 1)[0]))
                current[name] = _Instruction(name, shape, operation, operands, rest, root is not None)

    @cached_property
    def collectives(self) -> list[Collective]:
        """All collectives, in no particular order; `times` counts the iterations of loops."""
        return list(self._collectives(self._entry, 1))

    def _collectives(self, computation: str, times: int) -> Iterator[Collective]:
        instructions = self._computations[computation]
        for instruction in instructions.values():
            kind = instruction.operation.removesuffix("-start")
            if kind in COLLECTIVES:
                operands = [instructions[name].shape for name in instruction.operands if name in instructions]
                sizes = [size for shape in operands for size in _sizes(shape)]
                yield Collective(kind, len(sizes), sum(sizes), times)
            else:
                trips = self._trip_count(instruction) if instruction.operation == "while" else 1
                for called in _called(instruction):
                    yield from self._collectives(called, times * trips)

    @cached_property
    def memory_traffic(self) -> int:
        """Bytes that a device reads from and writes to its memory, summed over the instructions."""
        return self._traffic(self._entry)

    def _traffic(self, computation: str) -> int:
        instructions = self._computations[computation]
        total = 0
        for instruction in instructions.values():
            if instruction.operation == "while":
                total += self._trip_count(instruction) * sum(map(self._traffic, _called(instruction)))
            elif instruction.operation == "conditional":
                total += max(map(self._traffic, _called(instruction)))
            elif instruction.operation == "call":
                total += sum(map(self._traffic, _called(instruction)))
            elif instruction.operation in ("copy-start", "slice-start"):  # the result also includes the source
                total += min((n for n in _sizes(instruction.shape) if n > 4), default=0)
            elif instruction.accesses_memory:
                total += self._bytes_accessed(instruction, instructions)
        return total

    def _bytes_accessed(self, instruction: _Instruction, instructions: dict[str, _Instruction]) -> int:
        """Bytes read and written by one instruction; of arrays that it slices or updates a slice of, only the slice."""
        shapes = [instructions[name].shape if name in instructions else "" for name in instruction.operands]
        operands, result = [_in_memory(shape) for shape in shapes], _in_memory(instruction.shape)
        if instruction.operation in ("dynamic-slice", "slice", "gather"):
            return result + min(operands[0], result)
        if instruction.operation == "dynamic-update-slice":
            return operands[1] + min(result, sum(_sizes(shapes[1])))
        if instruction.operation != "fusion":
            return sum(operands) + result
        inner = self._computations[_called(instruction)[0]]
        parameters = {name: int(i.rest.split(")", 1)[0]) for name, i in inner.items() if i.operation == "parameter"}
        root = next(i for i in inner.values() if i.is_root)
        if root.operation == "dynamic-update-slice":
            update = sum(_sizes(inner[root.operands[1]].shape))
            result = min(result, update)
            if root.operands[0] in parameters:
                operands[parameters[root.operands[0]]] = 0
        for name, position in parameters.items():
            users = [i for i in inner.values() if name in i.operands]
            if users and all(user.operation in ("dynamic-slice", "slice") for user in users):
                read = sum(sum(_sizes(user.shape)) for user in users)
                operands[position] = min(operands[position], read)
        return sum(operands) + result

    def _trip_count(self, loop: _Instruction) -> int:
        """Iterations of a loop, as annotated or from the constant that its counter is compared with; 1 if neither."""
        if annotation := re.search(r'known_trip_count[^}]*?"n":"(\d+)"', loop.rest):
            return int(annotation[1])
        match = re.search(r"\bcondition=%?([\w.-]+)", loop.rest)
        condition = self._computations[match[1]] if match else {}
        compared = [i for i in condition.values() if i.is_root and i.operation == "compare" and "=LT" in i.rest]
        constants = [condition[name] for i in compared for name in i.operands if name in condition]
        limits = [int(i.rest.split(")", 1)[0]) for i in constants if i.operation == "constant"]
        return limits[0] if limits else 1


def _called(instruction: _Instruction) -> list[str]:
    """Names of the computations that an instruction calls."""
    branches = [name.strip().lstrip("%") for text in _BRANCHES.findall(instruction.rest) for name in text.split(",")]
    return _CALLED.findall(instruction.rest) + branches


def _sizes(shape: str) -> list[int]:
    """Bytes of each array of a shape, which may be a tuple."""
    return [size for size, _ in _arrays(shape)]


def _in_memory(shape: str) -> int:
    """Bytes of those arrays of a shape that are in the device's main memory."""
    return sum(size for size, layout in _arrays(shape) if not re.search(r"S\(\d", layout))


def _arrays(shape: str) -> Iterator[tuple[int, str]]:
    for kind, dimensions, layout in _ARRAY.findall(shape):
        if kind in _BITS:
            count = 1
            for dimension in filter(None, dimensions.split(",")):
                count *= int(dimension)
            yield -(-count * _BITS[kind] // 8), layout
