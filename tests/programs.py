"""Programs called as users call them."""

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = {
    "epochs": 2,
    "batch_size": 16,
    "dataset.name": "cervix/initial",
    "dataset.image_size": "(32,24)",
    "model.backbone.name": "none",
    "model.widths": "(4,)",
    "model.blocks": "(1,)",
}


def start(program, *arguments, **options):
    command = [sys.executable, "-m", f"cervix_jax.{program}", *map(str, arguments)]
    return subprocess.Popen(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        **{"cwd": ROOT} | options,
    )


# Programs take some two seconds to import libraries: those that are called come from a process that has them already
# (elsewhere than on Linux some cannot be forked).
_LIBRARIES = ["flax", "grain", "ml_collections", "optax", "orbax.checkpoint", "scipy.stats", "tensorflow_datasets"]
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(_LIBRARIES if sys.platform == "linux" else [])


def call(program, *arguments):
    """Status, standard output and standard error of a program, with the environment of the first call."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("out", "err")]
        process = _processes.Process(target=_run, args=(program, [str(x) for x in arguments], outputs))
        process.start()
        process.join(timeout=300)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"{program} has not ended")
        return process.exitcode, *(path.read_text() for path in outputs)


def _run(program, arguments, outputs):
    os.environ.setdefault("GLIBC_TUNABLES", "")  # or it would execute its command line anew, which is another's here
    os.chdir(ROOT)
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.path[0], sys.argv = str(ROOT), ["-m", *arguments]
    runpy.run_module(f"cervix_jax.{program}", run_name="__main__", alter_sys=True)


def result(program, *arguments):
    status, out, err = call(program, *arguments)
    assert status == 0, err
    return json.loads(out.splitlines()[-1])


def run_flags(manual_dir, data_dir):
    places = {"dataset.manual_dir": manual_dir, "dataset.data_dir": data_dir}
    return ["--config=configs/report.py", *(f"--config.{name}={value}" for name, value in (TINY | places).items())]
