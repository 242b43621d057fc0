"""The launchers for other machines, as far as they can be tried on this one; slurm_here.sh beside this goes further."""

import http.server
import os
import re
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch", ROOT / "tests/launch/slurm_here.sh"])
SAYS = """#!/usr/bin/env bash
case "$*" in
  -c*) exit 0 ;;  # libtpu is there
  *) echo "$JAX_COORDINATOR_ADDRESS $JAX_NUM_PROCESSES $JAX_PROCESS_ID" "$@" ;;
esac
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    command = ["shellcheck", "--external-sources", f"--source-path={LAUNCH}", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["slurm.sbatch", "tpu_vm.sh", "serve.sh"])
def test_scripts_say_how_they_are_used(name: str) -> None:
    assert os.access(LAUNCH / name, os.X_OK)
    done = subprocess.run([LAUNCH / name], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(stat.S_IRWXU)


@pytest.fixture
def stub_venv(tmp_path):
    """An environment whose Python says what it is called with."""
    write_program(tmp_path / "venv/bin/python", SAYS)
    wanted = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "requirements.lock").read_bytes()
    checksum = subprocess.run(["cksum"], input=wanted, capture_output=True, check=True).stdout
    (tmp_path / "venv/.installed").write_bytes(checksum)
    return tmp_path / "venv"


@pytest.fixture
def metadata_server():
    """Google's metadata server, as host 1 of 3 sees it."""
    attributes = {"agent-worker-number": "1", "worker-network-endpoints": "a:1:10.0.0.2,b:2:10.0.0.3,c:3:10.0.0.4"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            value = attributes.get(self.path.removeprefix("/computeMetadata/v1/instance/attributes/"))
            found = value is not None and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if found else 403)
            self.end_headers()
            self.wfile.write((value or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield attributes, f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("endpoints", ["a:1:10.0.0.2,b:2:10.0.0.3,c:3:10.0.0.4", "10.0.0.2,10.0.0.3,10.0.0.4"])
def test_tpu_hosts_learn_of_each_other_from_the_metadata_server(metadata_server, endpoints, stub_venv) -> None:
    attributes, address = metadata_server
    attributes["worker-network-endpoints"] = endpoints
    done = subprocess.run(
        [LAUNCH / "tpu_vm.sh", "train", "--workdir=a folder"],
        env=os.environ | {"VENV": str(stub_venv), "GCE_METADATA_HOST": address, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "10.0.0.2:8482 3 1 -m cervix_jax.train --workdir=a folder\n", done.stderr


def test_the_page_is_of_runs_where_the_user_stands(stub_venv, tmp_path) -> None:
    (tmp_path / "my runs/cv").mkdir(parents=True)

    def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"VENV": str(stub_venv)}
        command = [LAUNCH / "serve.sh", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = serve("my runs/cv", "--tta=flips")
    run = f"--workdir={tmp_path}/my runs/cv"
    assert done.stdout.split(maxsplit=2) == ["-m", "cervix_jax.serve", f"{run} --calibrate --tta=flips\n"], done.stderr
    assert (serve("--port=1").returncode, serve("nowhere").returncode) == (2, 2)


@pytest.mark.parametrize(
    ("audit", "status", "says"),
    [
        ("echo No known vulnerabilities found", 0, "No known vulnerabilities"),
        ("echo jax 0.1 GHSA-1; exit 1", 1, "GHSA-1"),
        ("echo Traceback; exit 1", 3, "not checked: pip-audit failed"),
        ("echo ReadTimeout: Max retries; exit 1", 3, "the advisories cannot be reached"),
        ("seq -f 'jax %.0f CVE-2020' 9999; exit 1", 1, "jax 9999"),
    ],
)
def test_an_audit_passes_only_if_it_was_made(tmp_path, audit, status, says) -> None:
    shutil.copytree(LAUNCH, tmp_path / "launch")
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    write_program(tmp_path / ".venv-audit/bin/pip-audit", f"#!/usr/bin/env bash\n{audit}\n")
    write_program(tmp_path / ".venv-audit/bin/uv", "#!/usr/bin/env bash\n")
    (tmp_path / ".venv-audit/.installed").touch()
    done = subprocess.run([tmp_path / "launch/audit.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert says in done.stderr


@pytest.fixture
def job_set():
    return yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())


def test_pods_are_as_many_as_processes_and_know_each_other(job_set) -> None:
    (workers,) = job_set["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    environment = {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}
    assert workers["replicas"] == 1
    assert str(job["parallelism"]) == str(job["completions"]) == environment["JAX_NUM_PROCESSES"]
    assert job["completionMode"] == "Indexed"  # which numbers the pods, in an annotation
    assert "job-completion-index" in environment["JAX_PROCESS_ID"]["fieldRef"]["fieldPath"]
    assert job_set["spec"]["coordinator"] == {"replicatedJob": workers["name"], "jobIndex": 0, "podIndex": 0}
    assert environment["JAX_COORDINATOR_ADDRESS"].startswith("$(COORDINATOR):")
    assert "jobset.sigs.k8s.io/coordinator" in environment["COORDINATOR"]["fieldRef"]["fieldPath"]
    names = [e["name"] for e in container["env"]]
    assert names.index("COORDINATOR") < names.index("JAX_COORDINATOR_ADDRESS")  # it is defined before it is used
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in job["template"]["spec"]["volumes"]}
    assert container["args"][0] == "cervix_jax.train"


def test_the_job_fits_kubernetes_schema(job_set) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for workers in job_set["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "workers"}, **workers["template"]}
        validator.validate(job, validator.latest_version(), strict=True)


def test_the_image_copies_what_it_needs_and_nothing_is_left_out_of_the_context() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (LAUNCH / "Dockerfile").read_text(), re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    allowed = {line[1:] for line in (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    assert sources == allowed
    assert all((ROOT / name).exists() for name in sources)
