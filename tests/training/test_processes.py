"""Which process of a run this one is: the environment variables of each way to start several."""

import pytest

from keras_resnet.errors import ArgumentError
from keras_resnet.training.processes import Group, group_of

ADDRESSES, NUMBER, INDEX = (f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID"))


@pytest.mark.parametrize(
    ("environment", "group"),
    [
        ({}, None),
        ({"PATH": "/bin", INDEX: "3", "JOB_COMPLETION_INDEX": "2"}, None),
        # By hand.
        ({ADDRESSES: "10.0.0.1:1234", NUMBER: "2", INDEX: "1"}, Group("10.0.0.1:1234", 2, 1)),
        ({ADDRESSES: "a:1,b:2,c:3", NUMBER: "3", INDEX: "0"}, Group("a:1", 3, 0)),
        ({ADDRESSES: "[::1]:80", NUMBER: "1", INDEX: "0"}, Group("[::1]:80", 1, 0)),
        # In a Kubernetes Indexed Job; what is set by hand wins.
        ({ADDRESSES: "job-0.svc:1", NUMBER: "4", "JOB_COMPLETION_INDEX": "3"}, Group("job-0.svc:1", 4, 3)),
        ({ADDRESSES: "a:1", NUMBER: "4", INDEX: "2", "JOB_COMPLETION_INDEX": "3"}, Group("a:1", 4, 2)),
        # Under srun.
        (
            {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_STEP_NODELIST": "gpu[07-09,12]", "SLURM_JOB_ID": "31"},
            Group("gpu07:23487", 8, 5),
        ),
        (
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "login1,node2", "SLURM_JOB_ID": "920001"},
            Group("login1:23457", 2, 0),
        ),
        (
            {
                **{"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "0"},
                **{"SLURM_STEP_NODELIST": "a-b[3,5]", "SLURM_JOB_NODELIST": "other"},
            },
            Group("a-b3:23456", 2, 1),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "node1"}, None),  # one task alone
        ({"SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "node[1-8]"}, None),  # in a batch script, outside srun
        (
            {ADDRESSES: "a:1", NUMBER: "2", INDEX: "1", "SLURM_PROCID": "5", "SLURM_NTASKS": "8"},
            Group("a:1", 2, 1),
        ),
    ],
)
def test_the_group_that_an_environment_describes(environment: dict[str, str], group: Group | None) -> None:
    assert group_of(environment) == group


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({ADDRESSES: "a:1"}, "several processes need .* Received: 'a:1', None and None$"),
        ({NUMBER: "2", INDEX: "0"}, "several processes need .* Received: None, '2' and '0'$"),
        ({ADDRESSES: "a:1", NUMBER: "2"}, "several processes need .* Received: 'a:1', '2' and None$"),
        ({ADDRESSES: "a:1", NUMBER: "two", INDEX: "0"}, "must be integers. Received: 'two'$"),
        ({ADDRESSES: "a:1", NUMBER: "2", INDEX: "-1"}, "must be integers. Received: '-1'$"),
        ({ADDRESSES: "a:1", NUMBER: "2", INDEX: "2"}, "the number of this process must be 0 to 1. Received: 2$"),
        ({ADDRESSES: "a:1", NUMBER: "0", INDEX: "0"}, "the number of this process must be 0 to -1. Received: 0$"),
        ({ADDRESSES: "a", NUMBER: "2", INDEX: "0"}, "must read host:port. Received: a$"),
        ({ADDRESSES: "http://a:1/", NUMBER: "2", INDEX: "0"}, "must read host:port. Received: http://a:1/$"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "SLURM_JOB_NODELIST must name the machines. Received: ''$"),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "a"}, "must be 0 to 1. Received: 2$"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "many"}, "must be integers. Received: 'many'$"),
    ],
)
def test_variables_that_do_not_fit_together_are_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        group_of(environment)
