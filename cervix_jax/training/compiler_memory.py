"""Gives the compiler's memory back to the operating system, before the compiled program takes its own.

Compiling a training step for CPUs takes half a gigabyte in small pieces. The C library keeps them when they are freed,
so that a first start, which compiles, would need that much more than later ones, which do not.
"""

import ctypes
import functools
import sys
from typing import Any

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"  # JAX reports it before it runs what it has compiled
_LONG = 1.0  # seconds; programs that compile faster leave little


@functools.cache
def release_after_compiling() -> None:
    """From now on, frees what each compilation of more than a second leaves (Linux with the GNU C library)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        return

    def on_event(event: str, duration_secs: float, **_: Any) -> None:
        if event == _COMPILED and duration_secs > _LONG:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(on_event)
