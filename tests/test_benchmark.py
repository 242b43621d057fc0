"""The program that measures: what it prints for each thing it can measure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cervix_jax import config as options
from cervix_jax.config import flatten

ROOT = Path(__file__).parents[1]


def measure(config, what, *arguments):
    default = flatten(options.get_config())
    changed = {name: value for name, value in flatten(config).items() if value != default[name]}
    command = [sys.executable, "-m", "cervix_jax.benchmark", f"--what={what}", "--repeats=1", *arguments]
    command += ["--config=configs/report.py", *(f"--config.{name}={value}" for name, value in changed.items())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "what", ["step", "predict", "input", "prepare", pytest.param("startup", marks=pytest.mark.slow)]
)
def test_each_figure_comes_with_its_limit(what, tiny_config, manual_dir) -> None:
    tiny_config.model.widths, tiny_config.model.blocks = (4,), (1,)  # compiles faster, which most of these do anew
    if what == "step":
        tiny_config.parallel = "pmap"  # one program per device, whose operations are harder to count; the others: 'jit'
    metrics = measure(tiny_config, what, *([f"--images={manual_dir}"] if what == "prepare" else []))
    assert metrics["what"] == what
    assert metrics["device"]
    assert metrics["limit"]["what"]
    assert 0 < metrics["fraction_of_limit"] < (5 if what == "input" else 1.5)  # one tiny step against another: noise
    if what == "step":
        assert {"images_per_second", "compile_seconds", "flops_per_step", "peak_host_bytes"} <= set(metrics)
        assert metrics["flops_per_step"] > 1e6
    if what == "predict":
        assert metrics["single"]["batch_size"] == 1
        assert metrics["batch"]["batch_size"] == tiny_config.eval_batch_size
    if what == "input":
        for phase in (metrics["cold"], metrics["warm"]):
            assert phase["steps"] == 1
            assert 0 <= phase["waited_percent"] <= 100
    if what == "prepare":
        assert metrics["photographs"]["distinct"] == 8
        assert metrics["processes"]["two"]["photographs_per_second"] > 0
    if what == "startup":
        seconds = metrics["first_step_seconds"]
        assert min(seconds["nothing_compiled_before"]["median"], seconds["second_time"]["median"]) > 0
        assert metrics["help_seconds"]["median"] > 0
