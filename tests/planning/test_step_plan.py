"""Plans against real states and steps; the search for a batch against a device whose memory is known."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax import config as options
from cervix_jax.benchmarks.compute import Trainer
from cervix_jax.errors import UserError
from cervix_jax.planning import markdown, step_plan
from cervix_jax.planning.hlo import Collective, Program
from cervix_jax.planning.topologies import CHIPS, Topology
from cervix_jax.training.mesh import make_mesh

ROOT = Path(__file__).parents[2]
SMALL = {
    "dataset.image_size": (32, 24),
    "model.widths": (8, 16),
    "model.blocks": (1, 1),
    "model.backbone.name": "none",
    "batch_size": 8,
}


def small(**changes):
    return options.unflatten(SMALL | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture(scope="module")
def one_device():
    return step_plan.plan(small(), Topology.parse("cpu:1"))


def run_program(topology, *flags):
    """Status, plan or None, and messages of the program."""
    overrides = [f"--config.{name}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "cervix_jax.plan", "--config=configs/report.py", f"--topology={topology}"]
    done = subprocess.run([*command, *overrides, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1]) if done.stdout else None, done.stderr


@pytest.fixture(scope="module")
def four_devices():
    status, plan, messages = run_program("cpu:4", "--batch_per_device=8")
    assert status == 0, messages
    return plan


def test_bytes_are_those_of_the_arrays_that_training_holds(one_device) -> None:
    trainer = Trainer(small())
    state = jax.device_get(trainer.step())
    memory = one_device["bytes_per_device"]

    def size(tree):
        return sum(x.nbytes for x in jax.tree.leaves(tree))

    assert memory["parameters"] == one_device["gradient_bytes"] == size(state.params)
    assert memory["optimizer"] == size(state.opt_state)
    assert memory["statistics"] == size((state.batch_stats, state.metrics, state.step))
    assert memory["batch"] == size(trainer.batch)
    assert memory["average"] == memory["padding"] == 0
    assert memory["total"] == sum(size for kind, size in memory.items() if kind != "total")


def test_arithmetic_is_that_of_the_step(one_device) -> None:
    assert one_device["flops_per_step"] == Trainer(small()).flops()


def test_arithmetic_of_microbatches_is_that_of_the_batch(one_device) -> None:
    assert step_plan.flops_per_device(small(accumulate=4), 8) == one_device["flops_per_step"]


def test_one_device_has_no_collectives(one_device) -> None:
    assert one_device["collectives"] == {"count": 0, "bytes": 0, "by_kind": {}, "largest": None}
    assert "estimate" not in one_device  # this processor has no published figures
    assert "communication: 0 collectives" in markdown.markdown(one_device)


def test_four_devices_with_the_same_batch_each(one_device, four_devices) -> None:
    """By the program, which sets the number of devices of its process."""
    assert (four_devices["devices"], four_devices["batch_size"], four_devices["batch_per_device"]) == (4, 32, 8)
    assert four_devices["flops_per_step"] == 4 * one_device["flops_per_step"]
    for kind in ("parameters", "optimizer", "statistics", "batch"):
        assert four_devices["bytes_per_device"][kind] == one_device["bytes_per_device"][kind]


def test_the_gradient_is_reduced_once_and_all_else_is_small(four_devices) -> None:
    """Batch norm reduces two numbers per channel forward and two backward, the loss and the metrics a few."""
    gradient, collectives = four_devices["gradient_bytes"], four_devices["collectives"]
    assert set(collectives["by_kind"]) == {"all-reduce"}
    assert gradient <= collectives["bytes"] < 1.1 * gradient + 2 * four_devices["bytes_per_device"]["statistics"]


def test_batch_norm_in_groups_exchanges_nothing_during_the_step(four_devices) -> None:
    """One all-reduce of the gradient, which takes running statistics along, and one of the metrics."""
    status, plan, messages = run_program(
        "cpu:4", "--batch_per_device=8", "--config.batch_norm_groups=4", "--nolargest_batch"
    )
    assert status == 0, messages
    assert plan["collectives"]["count"] <= 2 < four_devices["collectives"]["count"]
    assert plan["flops_per_step"] == four_devices["flops_per_step"]


@pytest.mark.parametrize(
    ("topology", "flag", "message"),
    [
        ("cpu:3", "--config.batch_size=4", "4 does not divide over 3 devices; --batch_per_device"),
        ("cpu:2x2", "--nolargest_batch", "'cpu:2x2' is no topology of cpu"),
        ("cpu:x", "--nolargest_batch", "'cpu:x' is no topology"),
    ],
)
def test_user_errors_print_one_line(topology: str, flag: str, message: str) -> None:
    status, plan, messages = run_program(topology, flag)
    assert (status, plan) == (2, None)
    assert messages.startswith("error: ")
    assert message in messages
    assert len(messages.splitlines()) == 1


def test_arithmetic_of_a_trained_backbone_grows_with_the_batch() -> None:
    """On CPU its weight gradients are loops over images, of which XLA would count one iteration."""
    changes = {"model__backbone__name": "resnet50", "model__backbone__cut": "conv2_block1_2_bn"}
    config = small(**changes, model__backbone__trainable=("conv2",), dataset__image_size=(224, 224))
    one, two, four = (step_plan.flops_per_device(config, batch) for batch in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=1e-3)
    assert one == pytest.approx(two - one, rel=0.2)


def test_pmap_cannot_be_planned() -> None:
    with pytest.raises(UserError, match="'pmap'"):
        step_plan.plan(small(parallel="pmap"), Topology.parse("cpu:1"))


def test_tpus() -> None:
    status, plan, messages = run_program("v5e:2x2", "--nolargest_batch")
    if importlib.util.find_spec("libtpu") is None:
        assert status == 2
        assert "pip install -e '.[tpu]'" in messages
        pytest.skip("libtpu is not installed, so only its absence was tested")
    assert status == 0, messages
    assert plan["devices"] == 4
    assert [row["devices"] for row in plan["weak_scaling"]] == [1, 2, 4]
    largest = plan["collectives"]["largest"]
    assert largest["bytes"] >= 0.95 * plan["gradient_bytes"]  # in one all-reduce, except some of batch norm
    assert "| 4 | 8 |" in messages


@given(
    fixed=st.integers(0, 10**9),
    per_image=st.integers(10**5, 10**8),
    start=st.integers(1, 64),
    exponent=st.floats(0.8, 1.2),  # memory grows almost in proportion to the batch
    accumulate=st.sampled_from([1, 2, 3]),
)
def test_the_largest_batch_is_found(fixed, per_image, start, exponent, accumulate) -> None:
    topology = Topology.parse("v5e:1x1")
    fits = {}

    def bytes_needed(batch: int) -> int:
        return fixed + int(per_image * batch**exponent)

    def compile_step(config, mesh, limit) -> step_plan.Compiled | None:
        fits[config.batch_size] = bytes_needed(config.batch_size) <= limit
        memory = {"temporaries": bytes_needed(config.batch_size) - fixed, "parameters": fixed}
        return step_plan.Compiled(memory, Program("")) if fits[config.batch_size] else None

    config, mesh = small(batch_size=start, accumulate=accumulate), make_mesh(jax.devices()[:1])
    first = compile_step(config, mesh, topology.usable_memory)
    if first is None:
        return
    largest = step_plan.largest_batch(config, topology, mesh, start, first, lambda _: None, compile_step)
    assert fits[largest]
    assert all(batch % accumulate == 0 for batch in fits if batch != start)
    larger = max(largest + 8 * accumulate, round(1.2 * largest))
    assert bytes_needed(larger) > topology.usable_memory
    assert len(fits) <= 12


class SmallMemory(Topology):
    usable_memory = 1000.0


def test_a_step_that_does_not_fit_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"does not fit.*accumulate"):
        step_plan.plan(small(), SmallMemory.parse("cpu:1"))


def test_a_step_larger_than_the_memory_does_not_fit_though_it_compiles(one_device) -> None:
    needed, mesh = one_device["bytes_per_device"]["total"], make_mesh(jax.devices()[:1])
    assert step_plan.compile_step(small(), mesh, float(needed)) is not None
    assert step_plan.compile_step(small(), mesh, needed - 1.0) is None


def test_a_roofline_is_the_slower_of_arithmetic_and_memory_and_then_communication() -> None:
    chip, topology = CHIPS["v6e"], Topology.parse("v6e:2x4")
    program = Program("")
    program.memory_traffic = int(3 * chip.bandwidth)  # seconds
    program.collectives = [Collective("all-reduce", 1, 1000, 7)]
    estimate = step_plan.estimate(small(), topology, program, 2 * chip.flops["float32"], 16)
    communication = topology.all_reduce_seconds(7, 1000)
    assert estimate["memory_seconds"] == pytest.approx(3)
    assert estimate["compute_seconds"] == pytest.approx(2)
    assert estimate["step_seconds"] == pytest.approx(3 + communication)
    assert estimate["images_per_second"] == pytest.approx(8 * 16 / (3 + communication))
    assert estimate["efficiency"] == pytest.approx(3 / (3 + communication))
    assert dataclasses.replace(topology, shape=(1, 1)).all_reduce_seconds(7, 1000) == 0
