"""Variables that compiling without accelerators needs."""

import pytest

from cervix_jax.planning.environment import prepare_environment


def test_no_accelerator_is_searched_for() -> None:
    environment = {"JAX_PLATFORMS": "tpu", "HOME": "/home/me"}
    prepare_environment(environment, "v5e:2x2")
    assert environment["JAX_PLATFORMS"] == "cpu"
    assert environment["CUDA_VISIBLE_DEVICES"] == "-1"
    assert environment["HOME"] == "/home/me"
    assert not {"JAX_NUM_CPU_DEVICES", "XLA_FLAGS"} & environment.keys()


@pytest.mark.parametrize(("topology", "devices"), [("cpu:4", "4"), ("cpu:x", None), ("v4:2x2x1", None)])
def test_the_host_is_as_many_devices_as_asked_for(topology, devices) -> None:
    environment: dict[str, str] = {}
    prepare_environment(environment, topology)
    assert environment.get("JAX_NUM_CPU_DEVICES") == devices


def test_flags_of_the_user_are_kept_for_gpus() -> None:
    environment = {"XLA_FLAGS": "--xla_dump_to=x"}
    prepare_environment(environment, "h100:8")
    assert environment["XLA_FLAGS"].split()[0] == "--xla_dump_to=x"
    assert "--xla_gpu_autotune_level=0" in environment["XLA_FLAGS"].split()
