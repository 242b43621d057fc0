"""Plans against real states and steps; the search for a batch against a device whose memory is known."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax import config as options
from cervix_jax.benchmarks.compute import Work
from cervix_jax.errors import UserError
from cervix_jax.planning import markdown, step_plan
from cervix_jax.planning.hlo import Collective, Program
from cervix_jax.planning.topologies import CHIPS, Topology

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
def on_one():
    return step_plan.plan(small(), Topology.parse("cpu:1"))


def called(topology, *flags):
    """Status, plan or None, and messages of the program."""
    overrides = [f"--config.{name}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "cervix_jax.plan", "--config=configs/report.py", f"--topology={topology}"]
    done = subprocess.run(
        [*command, *overrides, *flags], cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1]) if done.stdout else None, done.stderr


@pytest.fixture(scope="module")
def on_four():
    status, plan, messages = called("cpu:4", "--batch_per_device=8")
    assert status == 0, messages
    return plan


def test_bytes_are_those_of_the_arrays_that_training_holds(on_one) -> None:
    work = Work(small())
    state = jax.device_get(work.train())
    memory = on_one["bytes_per_device"]

    def size(tree):
        return sum(x.nbytes for x in jax.tree.leaves(tree))

    assert memory["parameters"] == on_one["gradient_bytes"] == size(state.params)
    assert memory["optimizer"] == size(state.opt_state)
    assert memory["statistics"] == size((state.batch_stats, state.metrics, state.step))
    assert memory["batch"] == size(work.batch)
    assert memory["average"] == memory["padding"] == 0
    assert memory["total"] == sum(size for kind, size in memory.items() if kind != "total")


def test_arithmetic_is_that_of_the_step(on_one) -> None:
    assert on_one["flops_per_step"] == Work(small()).flops()


def test_arithmetic_of_a_batch_in_parts_is_that_of_the_batch(on_one) -> None:
    assert step_plan._flops(small(accumulate=4), 8) == on_one["flops_per_step"]


def test_one_device_exchanges_nothing(on_one) -> None:
    assert on_one["collectives"] == {"count": 0, "bytes": 0, "by_kind": {}, "largest": None}
    assert "estimate" not in on_one  # nothing is published about this processor
    assert "communication: 0 exchanges" in markdown.markdown(on_one)


def test_four_devices_with_as_much_each(on_one, on_four) -> None:
    """The program, with its own number of devices."""
    assert (on_four["devices"], on_four["batch_size"], on_four["batch_per_device"]) == (4, 32, 8)
    assert on_four["flops_per_step"] == 4 * on_one["flops_per_step"]
    for kind in ("parameters", "optimizer", "statistics", "batch"):
        assert on_four["bytes_per_device"][kind] == on_one["bytes_per_device"][kind]


def test_the_gradient_is_exchanged_once_and_all_else_is_small(on_four) -> None:
    """Batch norm exchanges two numbers a channel forward and two backward, the loss and the metrics a few."""
    gradient, collectives = on_four["gradient_bytes"], on_four["collectives"]
    assert set(collectives["by_kind"]) == {"all-reduce"}
    assert gradient <= collectives["bytes"] < 1.1 * gradient + 2 * on_four["bytes_per_device"]["statistics"]


@pytest.mark.parametrize(
    ("topology", "flag", "message"),
    [
        ("cpu:3", "--config.batch_size=4", "4 does not divide over 3 devices; --batch_per_device"),
        ("cpu:2x2", "--nolargest_batch", "'cpu:2x2' is no topology of cpu"),
        ("cpu:x", "--nolargest_batch", "'cpu:x' is no topology"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_line(topology: str, flag: str, message: str) -> None:
    status, plan, messages = called(topology, flag)
    assert (status, plan) == (2, None)
    assert messages.startswith("error: ")
    assert message in messages
    assert len(messages.splitlines()) == 1


def test_arithmetic_of_a_trained_backbone_grows_with_the_batch() -> None:
    """On CPU its weight gradients are loops over images, of which XLA would count one round."""
    changes = {"model__backbone__name": "resnet50", "model__backbone__cut": "conv2_block1_2_bn"}
    config = small(**changes, model__backbone__trainable=("conv2",), dataset__image_size=(224, 224))
    one, two, four = (step_plan._flops(config, batch) for batch in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=1e-3)
    assert one == pytest.approx(two - one, rel=0.2)


def test_the_other_layout_cannot_be_planned() -> None:
    with pytest.raises(UserError, match="'pmap'"):
        step_plan.plan(small(parallel="pmap"), Topology.parse("cpu:1"))


def test_tpus() -> None:
    status, plan, messages = called("v5e:2x2", "--nolargest_batch")
    if importlib.util.find_spec("libtpu") is None:
        assert status == 2
        assert "pip install -e '.[tpu]'" in messages
        pytest.skip("libtpu is not installed, so only its absence was tested")
    assert status == 0, messages
    assert plan["devices"] == 4
    assert [row["devices"] for row in plan["weak_scaling"]] == [1, 2, 4]
    largest = plan["collectives"]["largest"]
    assert largest["bytes"] >= 0.95 * plan["gradient_bytes"]  # in one exchange, but for some of batch norm
    assert "| 4 | 8 |" in messages


@given(
    fixed=st.integers(0, 10**9),
    an_image=st.integers(10**5, 10**8),
    start=st.integers(1, 64),
    bend=st.floats(0.8, 1.2),  # memory does not grow quite in proportion
    accumulate=st.sampled_from([1, 2, 3]),
)
def test_the_largest_batch_is_found(fixed, an_image, start, bend, accumulate) -> None:
    limit = CHIPS["v5e"].memory
    tried = {}

    def needs(batch: int) -> int:
        return fixed + int(an_image * batch**bend)

    def compiled(batch: int) -> step_plan.Compiled | None:
        tried[batch] = needs(batch) <= limit
        memory = {"temporaries": needs(batch) - fixed, "parameters": fixed}
        return step_plan.Compiled(memory, Program("")) if tried[batch] else None

    first = compiled(start)
    if first is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_plan, "_compile", lambda config, mesh, limit: compiled(config.batch_size))
        mesh = step_plan.make_mesh(jax.devices()[:1])
        found = step_plan._largest(
            small(accumulate=accumulate), Topology.parse("v5e:1x1"), mesh, start, first, lambda _: None
        )
    assert tried[found]
    assert all(batch % accumulate == 0 for batch in tried if batch != start)
    one_more = max(found + 8 * accumulate, round(1.2 * found))
    assert needs(one_more) > limit
    assert len(tried) <= 12


def test_a_step_that_does_not_fit_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setattr(step_plan, "_compile", lambda *_: None)
    with pytest.raises(UserError, match=r"does not fit.*accumulate"):
        step_plan.plan(small(), Topology.parse("cpu:1"))


def test_a_step_larger_than_the_memory_does_not_fit_though_it_compiles(on_one) -> None:
    needed, mesh = on_one["bytes_per_device"]["total"], step_plan.make_mesh(jax.devices()[:1])
    assert step_plan._compile(small(), mesh, float(needed)) is not None
    assert step_plan._compile(small(), mesh, needed - 1.0) is None


def test_a_roofline_is_the_slower_of_arithmetic_and_memory_and_then_communication() -> None:
    chip, topology = CHIPS["v6e"], Topology.parse("v6e:2x4")
    program = Program("")
    program.memory_traffic = int(3 * chip.bandwidth)  # seconds
    program.collectives = [Collective("all-reduce", 1, 1000, 7)]
    found = step_plan._estimate(small(), topology, program, 2 * chip.flops["float32"], 16)
    talking = topology.all_reduce_seconds(7, 1000)
    assert found["memory_seconds"] == pytest.approx(3)
    assert found["compute_seconds"] == pytest.approx(2)
    assert found["step_seconds"] == pytest.approx(3 + talking)
    assert found["images_per_second"] == pytest.approx(8 * 16 / (3 + talking))
    assert found["efficiency"] == pytest.approx(3 / (3 + talking))
    assert dataclasses.replace(topology, shape=(1, 1)).all_reduce_seconds(7, 1000) == 0
