"""What compiling without accelerators needs of the environment; nothing here imports JAX, which reads it first."""

from collections.abc import MutableMapping


def prepare_environment(environment: MutableMapping[str, str], topology: str) -> None:
    """Neither JAX nor the compiler's library is to look for an accelerator, or to log that it found none.

    Args:
      environment: of this process.
      topology: its name, such as 'v5e:16x16'.
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
    if kind == "h100":  # tuning would run programs on the GPU; untuned, Triton finds no tiles for some products
        flags = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}".strip()
