"""Plans for slices that are not there: of a small network, compiled by libtpu, and what cannot be planned."""

import dataclasses
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from vq_jax.cli.main import main
from vq_jax.configs import RestorationLosses, VQGANf16
from vq_jax.configs.presets import load_preset
from vq_jax.errors import UserError
from vq_jax.host.chips import CHIPS, known_slices, parse_slice
from vq_jax.plan import plan as planning
from vq_jax.plan.batch_search import largest_batch
from vq_jax.plan.hlo import Collective, Program
from vq_jax.plan.plan import Plan, make_plan
from vq_jax.pretrained.build import build_model, image_shape
from vq_jax.train.sharding import make_mesh
from vq_jax.train.state import init_state
from vq_jax.train.tasks.base import task_class
from vq_jax.train.tasks.planned_codes import num_classes, tokenizer_preset
from vq_jax.train.tasks.tokenizer import networks

ROOT = Path(__file__).parents[2]
SLICE = parse_slice("v5e:4x4")
compiles = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='needs libtpu: pip install -e ".[plan]", Linux only'
)

# A VQ-GAN and a prior over its codes, so small that they compile in seconds.
TOKENIZER = """
import dataclasses
from vq_jax.configs.presets import load_preset
base = load_preset("vqgan-fashion")
config = dataclasses.replace(
    base,
    name="small",
    model=base.model.override(channels=8, residual_channels=8, num_res_blocks=1, codebook_size=16),
    data=dataclasses.replace(base.data, batch_size=32),
    discriminator=dataclasses.replace(base.discriminator, channels=8, num_layers=1),
)
"""
PRIOR = """
import dataclasses
from vq_jax.configs.presets import load_preset
from vq_jax.configs.priors import GPTArchitecture
config = dataclasses.replace(
    load_preset("prior-fashion-gpt"),
    name="small-prior",
    prior=GPTArchitecture(width=32, num_layers=3, num_heads=2),
)
"""


def plan_in(folder, *arguments):
    """Runs `vq-jax plan` in another process, whose libtpu and environment stay there."""
    # Paths too: libtpu may lie beside the environment rather than in it.
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TPU_", "JAX_"))}
    return subprocess.run(
        [sys.executable, "-m", "vq_jax.cli.main", "plan", *map(str, arguments)],
        env={**environment, "PYTHONPATH": path, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="session")
def experiments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "small.py").write_text(TOKENIZER)
    (folder / "small_prior.py").write_text(PRIOR)
    return folder


@pytest.fixture(scope="session")
def tokenizer_plan(experiments):
    target = experiments / "small.json"
    done = plan_in(experiments, experiments / "small.py", "--topology", "v5e:4x4", "--json", target)
    assert done.returncode == 0, done.stderr
    assert not (experiments / "cache").exists()  # programs for chips that are not there do not read back
    (plan,) = json.loads(target.read_text())
    return plan, done.stdout


@compiles
def test_a_data_parallel_step_reduces_the_gradients_once_and_gathers_nothing(tokenizer_plan, experiments):
    plan, _ = tokenizer_plan
    config = load_preset(str(experiments / "small.py"))
    parts = networks(config, build_model(config))
    state = jax.eval_shape(lambda: init_state(jax.random.key(0), image_shape(config), **parts))
    gradients = sum(
        leaf.size * leaf.dtype.itemsize
        for leaf in jax.tree.leaves((state.generator.params, state.discriminator.params))
    )
    assert {found["kind"] for found in plan["program"]["collectives"]} == {"all-reduce"}
    assert all(found["group"] == 16 for found in plan["program"]["collectives"])
    # Those of kernels are in bfloat16, the compute dtype, hence from half a copy on. Beside them: the
    # codebook's statistics, batch statistics, the metrics. No activations.
    moved = sum(found["bytes"] for found in plan["program"]["collectives"])
    assert 0.5 * gradients < moved < 1.1 * gradients


@compiles
def test_a_plan_has_memory_time_and_speed(tokenizer_plan):
    plan, output = tokenizer_plan
    assert (plan["preset"], plan["topology"], plan["chips"], plan["per_device_batch"]) == (
        "small",
        "v5e:4x4",
        16,
        2,
    )
    assert plan["fits"] and plan["program"]["loops_of_unknown_length"] == 0
    assert plan["memory"].keys() == {"arguments", "outputs", "temporaries", "program"}
    assert plan["memory"]["arguments"] < plan["peak"] <= sum(plan["memory"].values())
    assert plan["peak"] < plan["hbm"] == 16 * 2**30
    times = {kind: plan[f"{kind}_seconds"] for kind in ("compute", "hbm", "collective")}
    assert plan["seconds"] == max(times.values()) == times[plan["bound"]] > 0
    assert plan["pictures_per_second"] == pytest.approx(2 / plan["seconds"])
    assert 0 < plan["utilisation"] <= 1
    # A program without loops, whose every multiplication the compiler counts: also those beside products.
    assert 0.8 * plan["xla"]["flops"] < plan["program"]["flops"] < plan["xla"]["flops"]
    assert "small on v5e:4x4: 16 chips, batch 2 a chip, 32 in all" in output
    assert "all-reduce among 16" in output and "pictures/s a chip, bound by" in output


@compiles
def test_a_prior_is_planned_from_its_tokenizers_preset_and_layers_all_count(experiments):
    target = experiments / "prior.json"
    done = plan_in(
        experiments,
        *(experiments / "small_prior.py", "--tokenizer", experiments / "small.py", "--remat"),
        *("--topology", "v5e:2x2", "v4:2x2x1", "--per-device-batch", 4, "--json", target),
    )
    assert done.returncode == 0, done.stderr
    plans = json.loads(target.read_text())
    assert [(plan["topology"], plan["chips"], plan["remat"]) for plan in plans] == [
        ("v5e:2x2", 4, True),
        ("v4:2x2x1", 4, True),
    ]
    # 7 x 7 codes, three layers: each weight is multiplied forward, recomputed, and twice backward.
    weights = 3 * (4 * 32 * 32 + 3 * 32 * plans_width(32))
    for plan in plans:
        assert plan["program"]["loops_of_unknown_length"] == 0
        assert plan["program"]["flops"] > 7 * 2 * 4 * 49 * weights / 2
        assert plan["program"]["flops"] > plan["xla"]["flops"]  # which takes the layers as one
    assert "topology  batch/chip" in done.stdout


def plans_width(width):
    """Least hidden width of the feed-forward layers: 8/3 of the width."""
    return 8 * width // 3


def fake_plan(batch, largest):
    return Plan(
        preset="small",
        topology="v5e:4x4",
        chips=16,
        per_device_batch=batch,
        fsdp=1,
        remat=False,
        fits=batch <= largest,
        hbm=2.0**34,
        peak=14 * 2.0**30,
        memory={"arguments": 2.0**29, "program": 2.0**29},
        program=Program(197e12, 1.0, (Collective("all-reduce", 16, 1.0, 8.0),), 0),
        compute_seconds=1.0,
    )


@pytest.mark.parametrize("largest", [1, 5, 8, 9, 31, 32, 100])
@pytest.mark.parametrize("start", [1, 8, 32])
def test_the_search_finds_the_largest_batch_without_knowing_the_memory(largest, start):
    tried = []

    def make(batch):
        tried.append(batch)
        return fake_plan(batch, largest)

    found = largest_batch(make, start)
    assert found.per_device_batch == largest and found.largest
    assert len(set(tried)) == len(tried) <= 16


@pytest.mark.parametrize("start", [4, 32])
@pytest.mark.parametrize(("picture", "ripple"), [(0.4, 0.0), (0.4, 0.3), (0.01, 0.0), (2.0, 1.0)])
def test_the_search_follows_the_line_of_memory(start, picture, ripple):
    tried = []

    def make(batch):
        tried.append(batch)
        peak = (picture * batch + 1.3 + ripple * math.sin(batch)) * 2**30
        fits = peak <= 15.75 * 2**30  # the compiler keeps some for itself
        plan = dataclasses.replace(fake_plan(batch, 0), fits=fits, peak=peak)
        return plan if fits else dataclasses.replace(plan, memory={}, hbm=15.75 * 2**30)

    found = largest_batch(make, start)
    assert make(found.per_device_batch).fits and not make(found.per_device_batch + 1).fits
    assert len(tried) - 2 <= 6  # halving alone takes 8 to 15


def test_the_search_continues_where_more_fits_than_the_line_says():
    tried = []

    def make(batch):
        tried.append(batch)
        peak = min(1.0 + 0.33 * batch, 15.7) * 2**30 if batch <= 58 else 0.0  # at 45: 15.7 GiB
        return dataclasses.replace(fake_plan(batch, 58), peak=peak)

    assert largest_batch(make, 16).per_device_batch == 58
    assert len(tried) <= 8


def test_the_search_ends_where_nothing_fits():
    assert largest_batch(lambda batch: fake_plan(batch, 0), 8) is None


def test_max_batch_on_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(planning, "require_libtpu", lambda: None)
    monkeypatch.setattr(planning, "prepare_environment", lambda topology: None)
    monkeypatch.setattr(
        planning,
        "make_plan",
        lambda config, topology, *, per_device_batch, **_: fake_plan(per_device_batch, 0),
    )
    assert main(["plan", "vqvae-cifar10", "--topology", "v5e:4x4", "--max-batch"]) == 0
    assert "batch 1 a chip" in capsys.readouterr().out
    monkeypatch.setattr(
        planning,
        "make_plan",
        lambda config, topology, *, per_device_batch, **_: fake_plan(per_device_batch, 11),
    )
    assert main(["plan", "vqvae-cifar10", "--topology", "v5e:4x4", "--max-batch"]) == 0
    assert "batch 11 a chip, 176 in all" in capsys.readouterr().out


def test_a_search_that_is_stopped_leaves_what_it_has_tried(monkeypatch, tmp_path, caplog):
    target = tmp_path / "plan.json"
    kept = []

    def make(config, topology, *, per_device_batch, **_):
        if target.exists():
            kept.append([plan["per_device_batch"] for plan in json.loads(target.read_text())])
        return fake_plan(per_device_batch, 11)

    monkeypatch.setattr(planning, "require_libtpu", lambda: None)
    monkeypatch.setattr(planning, "prepare_environment", lambda topology: None)
    monkeypatch.setattr(planning, "make_plan", make)
    command = ["plan", "vqvae-cifar10", "--topology", "v5e:4x4", "--max-batch", "--json", str(target)]
    with caplog.at_level("INFO", logger="vq_jax"):
        assert main(command) == 0
    assert kept[0] == [8] and all(len(tried) == count for count, tried in enumerate(kept, 1))
    assert "8 pictures a chip: fits, 14.00 GiB of 16.00 GiB" in caplog.text
    (found,) = json.loads(target.read_text())
    assert found["per_device_batch"] == 11 and found["largest"]


def test_a_plan_that_does_not_fit_says_what_it_needs(monkeypatch, capsys):
    plan = dataclasses.replace(fake_plan(64, 8), program=None, memory={}, peak=20.5 * 2**30)
    monkeypatch.setattr(planning, "require_libtpu", lambda: None)
    monkeypatch.setattr(planning, "prepare_environment", lambda topology: None)
    monkeypatch.setattr(planning, "make_plan", lambda *_, **__: plan)
    assert main(["plan", "vqvae-cifar10", "--topology", "v5e:4x4", "v5e:4x4"]) == 0
    output = capsys.readouterr().out
    assert "at its peak: 20.50 GiB of 16.00 GiB\n" in output and "does not fit" in output


def test_a_search_in_which_nothing_fits_reports_one_picture_and_compiles_it_once(monkeypatch, capsys):
    tried = []

    def make(config, topology, *, per_device_batch, **_):
        tried.append(per_device_batch)
        too_large = {"program": None, "memory": {}, "fits": False, "peak": 20.5 * 2**30}
        return dataclasses.replace(fake_plan(per_device_batch, 8), **too_large)

    monkeypatch.setattr(planning, "require_libtpu", lambda: None)
    monkeypatch.setattr(planning, "prepare_environment", lambda topology: None)
    monkeypatch.setattr(planning, "make_plan", make)
    assert main(["plan", "vqvae-cifar10", "--topology", "v5e:4x4", "--max-batch"]) == 0
    assert tried[-1] == 1 and tried.count(1) == 1
    assert "batch 1 a chip" in (output := capsys.readouterr().out) and "does not fit" in output


def test_a_compilation_that_needs_too_much_memory_is_a_plan_that_does_not_fit():
    class Lowered:
        def __init__(self, message):
            self.message = message

        def compile(self):
            raise jax.errors.JaxRuntimeError(self.message)

    exhausted = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded"
    )
    assert planning._compile(Lowered(exhausted)) == {
        "peak": 20.5 * 2**30,
        "hbm": 15.75 * 2**30,
    }
    assert planning._compile(Lowered("RESOURCE_EXHAUSTED: no more is known")) == {}
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        planning._compile(Lowered("INTERNAL: a fault of the compiler"))


def test_the_roofline_is_the_longest_of_three_times():
    plan = dataclasses.replace(fake_plan(8, 8), compute_seconds=1.0, hbm_seconds=2.0, collective_seconds=0.5)
    assert (plan.seconds, plan.bound, plan.utilisation, plan.pictures_per_second) == (2.0, "hbm", 0.5, 4.0)


def test_links_of_the_chip_that_has_the_fewest():
    links = {name: parse_slice(name).links for name in known_slices()}
    assert links["v5e:2x2"] == links["v5e:4x4"] == links["v6e:8x8"] == 2  # a corner
    assert links["v5e:8x16"] == 3 and links["v5e:16x16"] == links["v6e:16x16"] == 4  # rings over the pod
    assert links["v4:2x2x1"] == 2 and links["v4:2x4x4"] == 3 and links["v4:4x4x4"] == 6
    assert parse_slice("v5e:16x16").egress == 4 * 50e9


def test_names_of_slices():
    assert parse_slice("v5e:4x4").accelerator_type == "v5litepod-16"
    assert parse_slice("v4:2x2x1").accelerator_type == "v4-8"  # two cores a chip
    assert parse_slice("v5p:4x4x4").chips == 64
    assert all(parse_slice(name).name == name for name in known_slices())
    assert set(CHIPS) == {"v4", "v5e", "v5p", "v6e"}


def test_an_unknown_topology_lists_the_known_ones(capsys):
    assert main(["plan", "vqvae-cifar10", "--topology", "v5e:4x5"]) == 2
    message = capsys.readouterr().err
    assert "unknown topology 'v5e:4x5'; did you mean " in message
    assert "v5e:4x4" in message
    assert "v4:2x2x1" in message and "v6e:16x16" in message
    assert main(["plan", "vqvae-cifar10", "--topology"]) == 2
    assert "at least one --topology" in capsys.readouterr().err


def test_without_libtpu_the_message_says_how_to_get_it(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "libtpu" else find(name, *rest)
    )
    assert main(["plan", "vqvae-cifar10", "--topology", "v5e:4x4"]) == 2
    assert 'pip install "vq-jax[plan]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "preset, options, message",
    [
        (
            "vqgan-imagenet-f16-16384",
            {},
            "the batch of .*, 12, does not divide among the 16 chips of v5e:4x4",
        ),
        ("vqvae-cifar10", {"per_device_batch": 0}, "--per-device-batch of at least 1, got 0"),
        ("vqvae-cifar10", {"per_device_batch": 2, "remat": True}, "vqvae-residual.* no blocks to recompute"),
        ("vqvae-cifar10", {"per_device_batch": 2, "fsdp": 0}, "mesh_fsdp"),
    ],
)
def test_a_run_that_cannot_be_planned_is_refused(preset, options, message):
    values = {"per_device_batch": None, "fsdp": None, "remat": False} | options
    with pytest.raises(UserError, match=message):
        planning._override(load_preset(preset), SLICE, **values)


def test_a_batch_that_accumulation_does_not_divide_is_refused():
    config = load_preset("vqvae-cifar10")
    parted = dataclasses.replace(
        config, training=dataclasses.replace(config.training, accumulate=config.data.batch_size)
    )
    with pytest.raises(UserError, match="must be a multiple of training.accumulate"):
        planning._override(parted, SLICE, 1, None, False)


def test_a_plan_computes_in_bfloat16_and_keeps_what_the_run_says():
    config = load_preset("vqvae-cifar10")
    assert planning._override(config, SLICE, 1, None, False).training.dtype == "bfloat16"
    exact = dataclasses.replace(config, training=dataclasses.replace(config.training, dtype="float32"))
    assert planning._override(exact, SLICE, 1, None, False).training.dtype == "float32"
    plain = dataclasses.replace(config, model=VQGANf16())
    assert planning._override(plain, SLICE, 1, None, True).model.remat


def test_the_tokenizer_of_a_prior():
    config = load_preset("gpt-imagenet-b")
    assert tokenizer_preset(config, None).name == "llamagen-imagenet"
    assert tokenizer_preset(config, "vqgan-fashion").name == "vqgan-fashion"
    with pytest.raises(UserError, match="gpt-imagenet-l is that of a prior"):
        tokenizer_preset(config, "gpt-imagenet-l")
    elsewhere = dataclasses.replace(config, tokenizer="runs/mine")
    with pytest.raises(UserError, match="learns the codes of runs/mine: give --tokenizer PRESET"):
        tokenizer_preset(elsewhere, None)


def test_the_classes_of_a_prior():
    config = load_preset("gpt-imagenet-b")
    assert num_classes(config, "tfds:imagenet2012", None) == 1000
    assert num_classes(config, "folder:/pictures", 7) == 7
    assert num_classes(config, "tfds:imagenet2012", 0) is None
    assert num_classes(config, "photos", None) is None
    assert num_classes(dataclasses.replace(config, conditional=False), "fashion", None) is None
    with pytest.raises(UserError, match="classes of folder:/pictures is not known here: give --classes N"):
        num_classes(config, "folder:/pictures", None)


@pytest.fixture(scope="session")
def small_tokenizer(experiments):
    return str(experiments / "small.py")


@pytest.mark.parametrize(
    "preset, network, metrics",
    [
        ("vqgan-fashion", ["generator", "discriminator"], {"loss", "discriminator/loss", "quantizer_loss"}),
        ("prior-fashion", [], {"loss", "cross_entropy"}),
        (
            "prior-fashion-noise",
            ["generator", "discriminator"],
            {"loss", "discriminator/loss", "adversarial_loss"},
        ),
        ("upscale-photos-x4", ["generator"], {"loss", "codes/cross_entropy"}),
    ],
)
def test_a_task_lowers_the_step_that_its_runs_take(preset, network, metrics, small_tokenizer):
    """On a mesh of this machine's devices, which lowers the step without libtpu."""
    config = load_preset(preset)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=8))
    if config.kind == "restorer":  # the small tokenizer's pictures are too small for LPIPS
        config = dataclasses.replace(config, losses=RestorationLosses())
    task = task_class(config.kind)
    lowered = task.lower(config, make_mesh(), tokenizer=small_tokenizer, classes=None)
    state, made = lowered.out_info
    assert metrics <= made.keys() and hasattr(getattr(config, task.network), "build")
    assert all(getattr(state, name) is not None for name in network)
    given, batch, *_ = lowered.args_info[0]
    assert jax.tree.structure(given) == jax.tree.structure(state)
    names = {"tokenizer": {"image"}, "restorer": {"image", "target"}}.get(config.kind, {"codes", "label"})
    assert batch.keys() == names and all(leaf.shape[0] == 8 for leaf in jax.tree.leaves(batch))


def test_only_what_is_not_set_is_set(monkeypatch):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "mine")
    names = ("TPU_SKIP_MDS_QUERY", "TPU_WORKER_HOSTNAMES", "ALLOW_MULTIPLE_LIBTPU_LOAD")
    for name in (*names, "JAX_PLATFORMS", "JAX_ENABLE_COMPILATION_CACHE"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    planning.prepare_environment(SLICE)
    assert os.environ["TPU_ACCELERATOR_TYPE"] == "mine"
    assert os.environ["TPU_SKIP_MDS_QUERY"] == "1"
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"


def test_make_plan_asks_for_libtpu(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    with pytest.raises(UserError, match="libtpu"):
        make_plan(load_preset("vqvae-cifar10"), SLICE, per_device_batch=1)


def test_the_table_and_the_plot_of_plans(tmp_path):
    spec = importlib.util.spec_from_file_location(
        "plan_table", ROOT / "experiments" / "benchmarks" / "plan_table.py"
    )
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    fitting = json.loads(json.dumps(fake_plan(8, 8).as_json()))
    too_large = dataclasses.replace(fake_plan(64, 8), program=None, memory={}, peak=20.5 * 2**30)
    text = tables.table([fitting, too_large.as_json()])
    assert "| small | v5e:4x4 | 8 | about 9 | yes, 14.0 of 16 | 197.00 | 0.0 | 0 (1 all-reduce) |" in text
    assert "| small | v5e:4x4 | 64 | less | no, 20.5 of 16 | - |" in text
    searched = {**fitting, "per_device_batch": 10, "largest": True}
    assert tables.largest(fitting, [fitting, searched]) == tables.largest(searched, [searched]) == "10"
    # As many on any slice of the same chips; on others by how memory grew where it was searched.
    elsewhere = {**searched, "topology": "v5e:16x16"}
    assert tables.largest(fitting, [fitting, elsewhere]) == "about 10"
    assert tables.largest({**fitting, "fsdp": 16}, [fitting, elsewhere]) == "about 9"
    others = [
        {**plan, "topology": "v6e:4x4", "peak": plan["per_device_batch"] * 2.0**30}
        for plan in (fitting, {**searched, "per_device_batch": 30})
    ]
    assert tables.largest({**fitting, "hbm": 2.0**35}, [fitting, *others]) == "about 26"
    assert tables.largest(fitting, [fitting, others[1]]) == "about 9"
    assert tables.largest(fitting, [fitting, *others, elsewhere, searched]) == "10"
    # On 256 chips the links of every chip are four, on 16 those of a corner are two.
    few, many = (tables.collective_seconds(fitting, parse_slice(name)) for name in ("v5e:4x4", "v5e:16x16"))
    assert few == pytest.approx(2 * 15 / 16 * 8 / 100e9) and many == pytest.approx(2 * 255 / 256 * 8 / 200e9)
    tables.plot([fitting], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match="no plans"):
        tables.read_plans(tmp_path)
    # The page in the repository is that of the plans beside it.
    plans = tables.read_plans(tables.RESULTS / "plan")
    assert (tables.RESULTS / "plan.md").read_text() == tables.table(plans)


@compiles
@pytest.mark.parametrize(
    "topology, fsdp", [("v6e:4x4", 2), ("v6e:4x4", 8), ("v5p:4x4x4", 8), ("v4:2x2x1", 2)]
)
def test_fsdp_may_take_a_part_of_an_axis_of_the_slice(topology, fsdp):
    config = load_preset("vqgan-imagenet-f16-16384")
    training = dataclasses.replace(config.training, mesh_fsdp=fsdp)
    mesh = planning._mesh(dataclasses.replace(config, training=training), parse_slice(topology))
    assert mesh.shape["fsdp"] == fsdp and mesh.size == parse_slice(topology).chips


def test_a_mesh_of_described_devices_is_theirs_alone():
    mesh = make_mesh(-1, 2, described=jax.devices()[:2])
    assert dict(mesh.shape) == {"data": 1, "fsdp": 2} and mesh.size == 2 < jax.device_count()
    with pytest.raises(UserError, match="data = 3 and fsdp = 1 does not match the 2 devices"):
        make_mesh(3, 1, described=jax.devices()[:2])
