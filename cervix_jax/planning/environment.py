"""Environment variables for compiling without accelerators; JAX reads them when it is imported, so this does not."""

from collections.abc import MutableMapping


def prepare_environment(environment: MutableMapping[str, str], topology: str) -> None:
    """Keeps JAX and the compiler's library from searching for accelerators, and from logging that there are none.

    Args:
      environment: of this process; changed.
      topology: name of a topology, such as 'v5e:16x16'.
    """
    environment.update(
        JAX_PLATFORMS="cpu",
        CUDA_VISIBLE_DEVICES="-1",
        TPU_SKIP_MDS_QUERY="1",
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_ACCELERATOR_TYPE="v5litepod-8",
        TPU_STDERR_LOG_LEVEL="3",
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    kind, _, count = topology.partition(":")
    if kind == "cpu" and count.isdecimal():
        environment["JAX_NUM_CPU_DEVICES"] = count
    if kind == "h100":  # autotuning needs a GPU; without it Triton finds no tiles for some matmuls
        flags = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}".strip()
