"""The launch scripts: clean for shellcheck, the commands they print, and twice is as good as once."""

import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tyro

from vq_jax.cli import train as cli
from vq_jax.configs import ExperimentConfig
from vq_jax.configs.presets import load_preset

pytestmark = pytest.mark.ci

ROOT = Path(__file__).parents[1]
SLICE = ROOT / "experiments" / "tpu" / "slice.sh"
BATCH = ROOT / "experiments" / "slurm" / "train.sbatch"
SPOT = ("--name", "photos", "--zone", "us-west4-a", "--type", "v5litepod-16", "--spot")
RUN = ("--preset", "vqgan-imagenet-f16-16384", "--workdir", "gs://bucket/run")

LIST = (
    "gcloud compute tpus queued-resources list --zone=us-west4-a '--filter=name~/photos$' "
    "'--format=value(state.state)'"
)
CREATE = (
    "gcloud compute tpus queued-resources create photos --node-id=photos --zone=us-west4-a "
    "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot"
)
DELETE = "gcloud compute tpus queued-resources delete photos --zone=us-west4-a --force --quiet"
INSTALL = [
    LIST,
    f"git -C {ROOT} archive --format=tar.gz --prefix=vq-jax/ --output={ROOT}/vq-jax.tar.gz HEAD",
    f"gcloud compute tpus tpu-vm scp {ROOT}/vq-jax.tar.gz photos:vq-jax.tar.gz --zone=us-west4-a "
    "--worker=all",
    "gcloud compute tpus tpu-vm ssh photos --zone=us-west4-a --worker=all --batch-size=all "
    "'--command=set -e; command -v ~/.local/bin/uv || curl -LsSf https://astral.sh/uv/install.sh | sh; "
    "test -d ~/venv || ~/.local/bin/uv venv --python 3.12 ~/venv; "
    '~/.local/bin/uv pip install --python ~/venv "./vq-jax.tar.gz[tpu,lpips]"\'',
]
TRAIN = (
    "gcloud compute tpus tpu-vm ssh photos --zone=us-west4-a --worker=all --batch-size=all "
    "'--command=if kill -0 $(cat vq-jax.pid 2>/dev/null) 2>/dev/null; then echo already running; "
    "else PATH=~/venv/bin:$PATH nohup vq-jax train vqgan-imagenet-f16-16384 --distributed "
    "--workdir gs://bucket/run --batch-size 512 >>vq-jax.log 2>&1 </dev/null & echo $! >vq-jax.pid; fi'"
)
LOGS = (
    "gcloud compute tpus tpu-vm ssh photos --zone=us-west4-a --worker=0 --batch-size=all "
    "'--command=tail -n 50 -F vq-jax.log'"
)

# Stands in for the real one: notes how it was called; STATES has a line for each question for the state,
# the last one answers all that follow.
GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$CALLS"
[[ $3 == queued-resources ]] || exit 0
case $4 in
  list)
    [[ $(head -n 1 "$STATES") != BROKEN ]] || exit 1
    head -n 1 "$STATES"
    if (($(wc -l <"$STATES") > 1)); then sed -i 1d "$STATES"; fi
    ;;
esac
"""


def slice_sh(*arguments, **environment):
    return subprocess.run(
        [SLICE, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def with_gcloud(tmp_path):
    """Runs slice.sh --execute with the slice in given states; returns it and the calls of gcloud."""
    program = tmp_path / "bin" / "gcloud"
    program.parent.mkdir()
    program.write_text(GCLOUD)
    program.chmod(0o755)

    def call(states, *arguments):
        calls, told = tmp_path / "calls", tmp_path / "states"
        calls.write_text("")
        told.write_text("".join(f"{state}\n" for state in states))
        done = slice_sh(
            arguments[0],
            "--execute",
            *arguments[1:],
            PATH=f"{program.parent}:{os.environ['PATH']}",
            CALLS=str(calls),
            STATES=str(told),
        )
        return done, [line.split()[2:4] for line in calls.read_text().splitlines()]

    return call


def test_shellcheck_finds_nothing():
    beside = Path(sys.executable).parent  # of an environment that may not be the active one
    program = shutil.which("shellcheck", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    assert program, 'shellcheck is missing: pip install -e ".[ci]" brings it'
    scripts = [SLICE, BATCH, ROOT / ".ci" / "run"]
    assert set(ROOT.glob("experiments/*/*.sh")) <= set(scripts)
    done = subprocess.run([program, "--exclude=SC1091", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "command, expected",
    [
        ("create", [LIST, CREATE, *INSTALL]),
        ("run", [TRAIN]),
        ("resume", [LIST, DELETE, CREATE, *INSTALL, TRAIN]),
        ("logs", [LOGS]),
        ("delete", [LIST, DELETE]),
    ],
)
def test_dry_run_for_a_spot_v5e_16_prints_the_commands(command, expected):
    # There is no gcloud on this path, nor need there be.
    done = slice_sh(command, *SPOT, *RUN, "--", "--batch-size", "512", PATH="/usr/bin:/bin")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines() == expected


def test_create_twice_asks_for_one_slice(with_gcloud):
    done, calls = with_gcloud(["", "ACTIVE"], "create", *SPOT)
    assert done.returncode == 0, done.stderr
    assert calls == [
        ["queued-resources", "list"],
        ["queued-resources", "create"],
        ["queued-resources", "list"],
        ["tpu-vm", "scp"],
        ["tpu-vm", "ssh"],
    ]
    done, calls = with_gcloud(["ACTIVE"], "create", *SPOT)
    assert done.returncode == 0 and ["queued-resources", "create"] not in calls
    assert "already exists" in done.stdout


def test_resume_makes_a_preempted_slice_anew_and_leaves_a_living_one(with_gcloud):
    done, calls = with_gcloud(["SUSPENDED", "ACTIVE"], "resume", *SPOT, *RUN)
    assert done.returncode == 0, done.stderr
    verbs = [verb for _, verb in calls]
    assert verbs == ["list", "delete", "create", "list", "scp", "ssh", "ssh"]
    done, calls = with_gcloud(["ACTIVE"], "resume", *SPOT, *RUN)
    assert done.returncode == 0 and [verb for _, verb in calls] == ["list", "list", "scp", "ssh", "ssh"]


def test_delete_of_what_is_gone_does_nothing(with_gcloud):
    done, calls = with_gcloud([""], "delete", *SPOT)
    assert done.returncode == 0 and calls == [["queued-resources", "list"]]
    assert "the slice photos does not exist" in done.stdout


@pytest.mark.parametrize("command", ["create", "resume", "delete"])
def test_nothing_is_made_or_removed_where_the_state_is_not_known(command, with_gcloud):
    done, calls = with_gcloud(["BROKEN"], command, *SPOT, *RUN)
    assert done.returncode != 0 and calls == [["queued-resources", "list"]]


def test_create_says_that_there_is_no_capacity(with_gcloud):
    done, _ = with_gcloud(["", "FAILED"], "create", *SPOT)
    assert done.returncode == 2 and "the slice photos is FAILED" in done.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "expected create, run, resume, logs or delete, got nothing"),
        (("start",), "got start"),
        (("create", "--name", "photos", "--zone", "z"), "expected --type for create"),
        (("create", "--name", "photos", "--type", "v5litepod-16"), "expected --zone"),
        (("create", "--name", "photos", "--zone", "z", "--type", "v5e-16"), "v5litepod-N, v5p-N or v6e-N"),
        (("run", "--name", "photos", "--zone", "z", "--workdir", "gs://b/r"), "expected --preset for run"),
        (
            ("run", *SPOT, "--preset", "x", "--workdir", "runs/x"),
            "gs://BUCKET/RUN, which all hosts can reach",
        ),
        (("logs", "--tail"), "unknown option --tail"),
        (("logs", "--name"), "expected a value after --name"),
    ],
)
def test_a_mistake_is_refused(arguments, message):
    done = slice_sh(*arguments)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""


def test_help_is_the_head_of_the_script():
    done = slice_sh("--help")
    assert done.returncode == 0 and done.stdout.startswith("A TPU slice for a training run")
    assert "slice.sh delete" in done.stdout and "set -euo" not in done.stdout


def test_a_job_under_slurm_trains_and_queues_itself_again_after_it_saved(tmp_path):
    for name, status in (("srun", 143), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/usr/bin/env bash\necho "{name} $*"\nexit {status}\n')
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", BATCH, "vqvae-cifar10", "/shared/run", "--steps", "5"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 143
    assert done.stdout.splitlines() == [
        "srun --cpus-per-task=8 --kill-on-bad-exit=0 vq-jax train vqvae-cifar10 --distributed "
        "--workdir /shared/run --steps 5",
        "scontrol requeue 7",
    ]
    done = subprocess.run(["bash", BATCH, "preset"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "expected PRESET and DIRECTORY, got preset" in done.stderr


def config_of(preset, options):
    """The experiment that a training command asks for."""
    given = [option for option in options if option != "--distributed"]
    default = cli.TrainArguments(load_preset(preset))
    return tyro.cli(cli.TrainArguments[ExperimentConfig], args=given, default=default).config


def test_the_commands_that_are_shown_train_on_all_chips_of_their_slice():
    text = (ROOT / "experiments" / "README.md").read_text()
    command = re.search(r"slice\.sh run(?:.*\\\n)*.*", text)[0].replace("\\\n", " ").split()
    preset = command[command.index("--preset") + 1]
    of_readme = config_of(preset, command[command.index("--") + 1 :])
    head = (ROOT / "experiments" / "tpu" / "gke-jobset.yaml").read_text()
    line = re.search(r'--command="([^"]*)"', head)[1].replace("\\\n#", " ").split()
    assert line[:2] == ["vq-jax", "train"]
    of_xpk, given = config_of(line[2], line[3:]), container()["command"]
    assert of_readme == of_xpk == config_of(given[2], given[3:])
    assert "--type v5litepod-16" in text and "--tpu-type=v5litepod-16" in head
    assert of_xpk.data.batch_size % 16 == 0 and of_xpk.data.data_dir.startswith("gs://")
    assert of_xpk.optimizer.learning_rate == of_xpk.discriminator.optimizer.learning_rate == 2e-4


def pod_of_manifest():
    import yaml

    manifest = yaml.safe_load((ROOT / "experiments" / "tpu" / "gke-jobset.yaml").read_text())
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    return job, job["template"]["spec"]


def container():
    (found,) = pod_of_manifest()[1]["containers"]
    return found


def test_the_manifest_asks_for_every_chip_of_its_topology():
    job, pod = pod_of_manifest()
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = container()["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"]
    assert chips * job["parallelism"] == math.prod(map(int, topology.split("x")))
    assert container()["command"][:2] == ["vq-jax", "train"] and "--distributed" in container()["command"]
    (mount,), (volume,) = container()["volumeMounts"], pod["volumes"]
    assert mount == {"name": volume["name"], "mountPath": "/dev/shm"}
    assert volume["emptyDir"]["medium"] == "Memory"


def test_the_image_and_the_slice_install_extras_that_there_are():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = (ROOT / "experiments" / "Dockerfile").read_text()
    assert "ARG EXTRA=cuda" in text and "[${EXTRA},gcs,lpips]" in text
    assert {"cuda", "tpu", "gcs", "lpips"} <= extras.keys()
    assert set(extras["gcs"]) < set(extras["tpu"])
