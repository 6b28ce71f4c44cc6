"""Several processes of one run, on the JAX backend: by hand, SLURM or Kubernetes (docs/many-devices.md)."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from keras_resnet.errors import ArgumentError, TrainingError, reason

PORT = 23456
HEARTBEAT_SECONDS = 20  # time until the other processes learn that a process is gone


class PeerLostError(TrainingError):
    """Another process of the run is gone, so that this process can't continue."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(
            f"after step {step}: another process of the run failed or is gone ({why}). Start all processes again with "
            "--resume"
        )


@dataclass(frozen=True)
class Group:
    """The processes of a run, and the number of this process."""

    coordinator: str  # host:port of process 0
    processes: int
    process: int


def group_of(environment: Mapping[str, str]) -> Group | None:
    """Environment variables -> group that they describe, or None for a single process.

    By hand: `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `_NUM_PROCESSES` and `_PROCESS_ID`, Keras' own names. Under SLURM's
    `srun`: its own variables. In a Kubernetes Indexed Job: `JOB_COMPLETION_INDEX`, with the first two set as by hand.

    Raises:
        ArgumentError: Some variables are missing, or they don't fit together.
    """
    addresses = environment.get("KERAS_DISTRIBUTION_JOB_ADDRESSES")
    number = environment.get("KERAS_DISTRIBUTION_NUM_PROCESSES")
    index = environment.get("KERAS_DISTRIBUTION_PROCESS_ID", environment.get("JOB_COMPLETION_INDEX"))
    if addresses or number:
        if not (addresses and number and index):
            raise ArgumentError(
                "several processes need KERAS_DISTRIBUTION_JOB_ADDRESSES (host:port of process 0), "
                "KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID (or JOB_COMPLETION_INDEX). "
                f"Received: {addresses!r}, {number!r} and {index!r}"
            )
        return _checked(Group(addresses.split(",")[0], _integer(number), _integer(index)))
    tasks = environment.get("SLURM_NTASKS", "1")
    if "SLURM_PROCID" in environment and _integer(tasks) > 1:
        host = _first_host(environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "")))
        # The port depends on the job's number, so that two jobs on one machine do not connect to each other.
        port = PORT + _integer(environment.get("SLURM_JOB_ID", "0")) % 10_000
        return _checked(Group(f"{host}:{port}", _integer(tasks), _integer(environment["SLURM_PROCID"])))
    return None


def _checked(group: Group) -> Group:
    if not 0 <= group.process < group.processes:
        raise ArgumentError(f"the number of this process must be 0 to {group.processes - 1}. Received: {group.process}")
    if not re.fullmatch(r"[\w.:\[\]-]+:\d+", group.coordinator):
        raise ArgumentError(f"the address of process 0 must read host:port. Received: {group.coordinator}")
    return group


def _integer(text: str) -> int:
    if not text.strip().isdigit():
        raise ArgumentError(f"the number of processes and the own number must be integers. Received: {text!r}")
    return int(text)


def _first_host(nodes: str) -> str:
    """SLURM's list of machines, for example "node[07-09,12],login1" -> first machine, "node07"."""
    match = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    if match is None:
        raise ArgumentError(f"SLURM_JOB_NODELIST must name the machines. Received: {nodes!r}")
    return match[1] + (match[2] or "")


def join_processes() -> None:
    """Joins the group that the environment describes, if any. Waits at most 5 minutes for the other processes."""
    import jax

    group = group_of(os.environ)
    if group is None or jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(
            group.coordinator,
            num_processes=group.processes,
            process_id=group.process,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except Exception as error:  # JAX's C++ code raises no type of its own
        raise TrainingError(
            f"process {group.process} of {group.processes} can't join the others through {group.coordinator} "
            f"({reason(error)}). Start all processes within 5 minutes, with the same address"
        ) from error
