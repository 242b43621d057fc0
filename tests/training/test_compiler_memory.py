"""What a compilation leaves in the C library goes back to the operating system, where there is a way to ask for it."""

import ctypes
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cervix_jax.training import compiler_memory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs the GNU C library"
)
MIB = 1 << 20


def resident_bytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields["VmRSS"].split()[0])


@pytest.mark.parametrize(("long", "released"), [(0.0, True), (60.0, False)])
def test_memory_freed_in_small_pieces_goes_back_when_a_program_has_been_compiled(
    long: float, released: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler_memory, "_LONG", long)
    compiler_memory.release_after_compiling()
    libc, size = ctypes.CDLL(None), 64 << 10
    libc.malloc.restype = ctypes.c_void_p
    pieces = [ctypes.c_void_p(libc.malloc(size)) for _ in range(2048)]
    for piece in pieces:
        ctypes.memset(piece, 1, size)
    for piece in pieces[:-1]:  # the last holds the heap up
        libc.free(piece)
    before = resident_bytes()

    jax.jit(lambda x: x * long + 1)(jnp.ones(3)).block_until_ready()

    assert (before - resident_bytes() > 64 * MIB) == released
    libc.free(pieces[-1])
