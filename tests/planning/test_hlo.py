"""What a compiled program sends and moves: programs written by hand, and real ones of known cost."""

import jax
import jax.numpy as jnp
import pytest

from cervix_jax.planning.hlo import Collective, Program

BY_HAND = """\
HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%slicing (p: f32[8,100], i: s32[]) -> f32[100] {
  %p = f32[8,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %slice = f32[1,100]{1,0} dynamic-slice(%p, %i, %zero), dynamic_slice_sizes={1,100}
  ROOT %flat = f32[100]{0} bitcast(%slice)
}

%body (state: (s32[], f32[8,100], f32[100])) -> (s32[], f32[8,100], f32[100]) {
  %state = (s32[], f32[8,100]{1,0}, f32[100]{0}) parameter(0)
  %n = s32[] get-tuple-element(%state), index=0
  %rows = f32[8,100]{1,0} get-tuple-element(%state), index=1
  %row = f32[100]{0:T(128)S(1)} fusion(%rows, %n), kind=kLoop, calls=%slicing
  %part = f32[100]{0:T(128)} all-reduce(%row), channel_id=1, to_apply=%sum
  ROOT %next = (s32[], f32[8,100]{1,0}, f32[100]{0}) tuple(%n, %rows, %part)
}

%condition (state.1: (s32[], f32[8,100], f32[100])) -> pred[] {
  %limit = s32[] constant(8)
  %state.1 = (s32[], f32[8,100]{1,0}, f32[100]{0}) parameter(0)
  %n.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%n.1, %limit), direction=LT
}

ENTRY %main (x: f32[8,100], y: bf16[10]) -> f32[100] {
  %x = f32[8,100]{1,0} parameter(0)
  %y = bf16[10]{0} parameter(1)
  %begun = (f32[8,100]{1,0:T(8,128)S(1)}, f32[8,100]{1,0}, u32[]) copy-start(%x)
  %here = f32[8,100]{1,0:T(8,128)S(1)} copy-done(%begun)
  %both = (bf16[10]{0}, f32[8,100]{1,0:T(8,128)S(1)}) all-reduce-start(%y, %here), channel_id=2, to_apply=%sum
  %summed = (bf16[10]{0}, f32[8,100]{1,0:T(8,128)S(1)}) all-reduce-done(%both)
  %zero.1 = s32[] constant(0)
  %first = (s32[], f32[8,100]{1,0}, f32[100]{0}) tuple(%zero.1, %x, %zero.1)
  %loop = (s32[], f32[8,100]{1,0}, f32[100]{0}) while(%first), condition=%condition, body=%body
  %result = f32[100]{0} get-tuple-element(%loop), index=2
  ROOT %twice = f32[100]{0} add(%result, %result)
}
"""


def test_collectives_of_a_program_written_by_hand() -> None:
    assert sorted(Program(BY_HAND).collectives, key=lambda c: c.bytes) == [
        Collective("all-reduce", arrays=1, bytes=400, times=8),
        Collective("all-reduce", arrays=2, bytes=20 + 3200, times=1),
    ]


def test_memory_traffic_of_a_program_written_by_hand() -> None:
    copied = 3200  # into the memory on the chip, once
    reduced = 20 + 20  # an all-reduce's operand and its result; the other array stays on the chip
    row = 400 + 4  # one row is read at a time, and its number; it is written to the chip
    iteration = row + 400  # the all-reduce in the loop writes its result
    assert Program(BY_HAND).memory_traffic == copied + reduced + 8 * iteration + 3 * 400


@pytest.mark.parametrize(
    ("shape", "size"), [("f32[3,5]{1,0}", 60), ("pred[7]{0}", 7), ("u4[9]{0}", 5), ("f8e4m3fn[4]{0}", 4), ("s64[]", 8)]
)
def test_bytes_of_each_dtype(shape: str, size: int) -> None:
    text = f"ENTRY %main (x: f32[]) -> f32[] {{\n  %x = {shape} parameter(0)\n  ROOT %y = {shape} negate(%x)\n}}\n"
    assert Program(text).memory_traffic == 2 * size


def program_of(function, *arguments) -> Program:
    return Program(jax.jit(function).lower(*arguments).compile().as_text())


def test_a_real_program_reads_and_writes_its_arrays_once() -> None:
    x = jnp.ones((512, 256))
    assert program_of(lambda x: 2 * x + 1, x).memory_traffic == pytest.approx(2 * x.nbytes, rel=0.01)
    assert program_of(lambda x: 2 * x + 1, x).collectives == []


def test_a_real_loop_accesses_its_arrays_in_each_iteration() -> None:
    x = jnp.ones((64, 64))

    def traffic(iterations: int) -> int:
        return program_of(lambda x: jax.lax.fori_loop(0, iterations, lambda _, x: jnp.sin(x @ x), x), x).memory_traffic

    per_iteration = (traffic(60) - traffic(10)) / 50
    assert per_iteration >= 3 * x.nbytes  # reads, the product, its sine
    assert traffic(110) - traffic(60) == pytest.approx(50 * per_iteration)
    assert traffic(10) == pytest.approx(10 * per_iteration, rel=0.3)


def test_the_largest_branch_is_counted() -> None:
    x = jnp.ones((64, 64))

    def function(which, x):
        return jax.lax.switch(which, [lambda x: x, lambda x: jnp.sin(x @ x), lambda x: jnp.sin(x @ x) @ x], x)

    traffic = program_of(function, jnp.array(0), x).memory_traffic
    largest = program_of(lambda x: jnp.sin(x @ x) @ x, x).memory_traffic
    assert largest <= traffic < 2 * largest
