"""The program that measures: what it prints for each thing it can measure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cervix_jax import config as options
from cervix_jax.config import flatten

ROOT = Path(__file__).parents[1]


def measured(config, what, *arguments):
    default = flatten(options.get_config())
    given = {name: value for name, value in flatten(config).items() if value != default[name]}
    command = [sys.executable, "-m", "cervix_jax.benchmark", f"--what={what}", "--repeats=1", *arguments]
    command += ["--config=configs/report.py", *(f"--config.{name}={value}" for name, value in given.items())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("what", ["step", "predict", "input", "prepare", "startup"])
def test_each_figure_comes_with_its_limit(what, tiny_config, manual_dir) -> None:
    if what != "input":  # these compile anew, however often other tests have compiled the same
        tiny_config.model.widths, tiny_config.model.blocks = (4,), (1,)
    if what == "step":
        tiny_config.parallel = "pmap"  # one program a device, of which flops are harder to get; the others have 'jit'
    found = measured(tiny_config, what, *([f"--images={manual_dir}"] if what == "prepare" else []))
    assert found["what"] == what
    assert found["device"]
    assert found["limit"]["what"]
    assert 0 < found["fraction_of_limit"] < (5 if what == "input" else 1.5)  # one tiny step against another: noise
    if what == "step":
        assert {"images_per_second", "compile_seconds", "flops_per_step", "peak_host_bytes"} <= set(found)
        assert found["flops_per_step"] > 1e6
    if what == "predict":
        assert found["single"]["batch_size"] == 1
        assert found["batch"]["batch_size"] == tiny_config.eval_batch_size
    if what == "input":
        for part in (found["cold"], found["warm"]):
            assert part["steps"] == 1
            assert 0 <= part["waited_percent"] <= 100
    if what == "prepare":
        assert found["photographs"]["distinct"] == 8
        assert found["processes"]["two"]["photographs_per_second"] > 0
    if what == "startup":
        times = found["first_step_seconds"]
        assert min(times["nothing_compiled_before"]["median"], times["second_time"]["median"]) > 0
        assert found["help_seconds"]["median"] > 0
