"""Residual and grouped residual quantization against vector-quantize-pytorch, over several updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
peer = pytest.importorskip("vector_quantize_pytorch")

from vq_jax import nn, ops  # noqa: E402

SIZE, WIDTH, STAGES, UPDATES = 16, 6, 3, 4
OPTIONS = {
    "codebook_size": SIZE,
    "num_quantizers": STAGES,
    "rotation_trick": False,
    "decay": 0.9,
    "commitment_weight": 1.0,
}


def batches(width):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(4, 10, width)).astype(np.float32) for _ in range(UPDATES)]


def array(tensor):
    return tensor.detach().numpy().copy()


def state_of(codebook):
    """The variables of `VectorQuantizerEMA` for the state of one of theirs: their averages start at one."""
    return {
        "embedding": jnp.asarray(array(codebook.embed)[0]),
        "cluster_size": jnp.asarray(array(codebook.cluster_size)[0]),
        "embedding_sum": jnp.asarray(array(codebook.embed_avg)[0]),
        "zero_weight": jnp.zeros((), jnp.float32),
    }


def states_of(stages):
    return {f"stages_{n}": state_of(stage._codebook) for n, stage in enumerate(stages.layers)}


def revive_with_the_first_rows(monkeypatch, stages):
    """Both libraries put the first latents of the batch in place of dead codes."""
    monkeypatch.setattr(ops, "sample_vectors", lambda rng, z, num, axis_name=None: z[:num])

    def replacing(codebook):
        def replace(batch_samples, batch_mask, seq_mask=None):
            for number, (samples, dead) in enumerate(zip(batch_samples, batch_mask, strict=True)):
                codebook.embed.data[number][dead] = samples[:SIZE][dead]
                codebook.cluster_size.data[number][dead] = codebook.reset_cluster_size
                codebook.embed_avg.data[number][dead] = samples[:SIZE][dead] * codebook.reset_cluster_size

        return replace

    for stage in stages.layers:
        monkeypatch.setattr(stage._codebook, "replace", replacing(stage._codebook))


def theirs_of(model, z, weight):
    """Their output, and the gradient of a weighted sum of it and of the losses."""
    given = torch.tensor(z, requires_grad=True)
    quantized, indices, losses = model(given)
    ((quantized * torch.tensor(weight)).sum() + losses.sum() * 10.0).backward()
    return array(quantized), array(indices), array(losses), array(given.grad)


def ours_of(model, variables, z, weight):
    def run(z):
        options = {"train": True, "mutable": ["codebook"], "rngs": {"quantizer": jax.random.key(0)}}
        out, moved = model.apply(variables, z, **options)
        return (weight * out.quantized).sum() + out.loss * 10.0, (out, moved)

    gradient, (out, moved) = jax.jit(jax.grad(run, has_aux=True))(jnp.asarray(z))
    return out, moved, gradient


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threshold", [0, 2])
def test_several_updates_of_each_stage_are_theirs(threshold, monkeypatch):
    torch.manual_seed(0)
    theirs = peer.ResidualVQ(dim=WIDTH, threshold_ema_dead_code=threshold, **OPTIONS)
    revive_with_the_first_rows(monkeypatch, theirs)
    inner = nn.VectorQuantizerEMA(
        SIZE, WIDTH, commitment_weight=1.0, decay=0.9, revive_threshold=float(threshold)
    )
    ours = nn.ResidualQuantizer(inner, STAGES)
    variables, revived = {"codebook": states_of(theirs)}, 0.0
    for z in batches(WIDTH):
        weight = np.float32(1.0) + z[::-1]
        quantized, indices, losses, expected = theirs_of(theirs, z, weight)
        out, variables, gradient = ours_of(ours, variables, z, weight)
        np.testing.assert_array_equal(out.indices, indices)
        close(out.quantized, quantized)
        close(out.loss, losses.sum())
        close(gradient, expected)
        jax.tree.map(close, variables["codebook"], states_of(theirs))
        revived += float(out.metrics["revived"])
    assert (revived > 0) == (threshold > 0)
    theirs.eval()
    theirs.quantize_dropout = True  # only then do they decode fewer stages
    codes = jnp.asarray(indices, jnp.int32)
    for n in range(1, STAGES + 1):
        close(
            ours.apply(variables, codes[..., :n], method="lookup"),
            array(theirs.get_output_from_indices(torch.tensor(indices[..., :n]))),
        )


def test_one_codebook_for_all_stages_gives_their_codes():
    torch.manual_seed(0)
    theirs = peer.ResidualVQ(dim=WIDTH, shared_codebook=True, threshold_ema_dead_code=0, **OPTIONS)
    inner = nn.VectorQuantizerEMA(SIZE, WIDTH, commitment_weight=1.0)
    ours = nn.ResidualQuantizer(inner, STAGES, shared=True)
    variables = {"codebook": {"stages_0": state_of(theirs.layers[0]._codebook)}}
    (z, *_), weight = batches(WIDTH), np.ones((4, 10, WIDTH), np.float32)
    quantized, indices, losses, expected = theirs_of(theirs, z, weight)
    out, _, gradient = ours_of(ours, variables, z, weight)
    np.testing.assert_array_equal(out.indices, indices)
    close(out.quantized, quantized)
    close(out.loss, losses.sum())
    close(gradient, expected)


def test_stages_left_out_give_their_output_and_loss():
    torch.manual_seed(0)
    theirs = peer.ResidualVQ(dim=WIDTH, quantize_dropout=True, threshold_ema_dead_code=0, **OPTIONS)
    inner = nn.VectorQuantizerEMA(SIZE, WIDTH, commitment_weight=1.0)
    variables = {"codebook": states_of(theirs)}
    (z, *_), found = batches(WIDTH), {}
    for seed in range(12):
        theirs_now = peer.ResidualVQ(dim=WIDTH, quantize_dropout=True, threshold_ema_dead_code=0, **OPTIONS)
        theirs_now.load_state_dict(theirs.state_dict())
        quantized, indices, losses = theirs_now(torch.tensor(z), rand_quantize_dropout_fixed_seed=seed)
        found[int((array(indices)[0, 0] >= 0).sum())] = array(quantized), array(losses).sum()
    assert sorted(found) == [1, 2, 3]
    ours = nn.ResidualQuantizer(inner, STAGES, min_stages=1)
    matched = set()
    for key in range(12):
        rngs = {"quantizer": jax.random.key(key)}
        out, _ = ours.apply(variables, jnp.asarray(z), train=True, mutable=["codebook"], rngs=rngs)
        (n,) = [n for n, (_, loss) in found.items() if np.isclose(loss, out.loss, rtol=1e-5)]
        close(out.quantized, found[n][0])
        matched.add(n)
    assert matched == {1, 2, 3}


def test_groups_of_residual_quantizers_are_theirs():
    torch.manual_seed(0)
    theirs = peer.GroupedResidualVQ(dim=2 * WIDTH, groups=2, threshold_ema_dead_code=0, **OPTIONS)
    inner = nn.VectorQuantizerEMA(SIZE, WIDTH, commitment_weight=1.0, decay=0.9)
    ours = nn.GroupedQuantizer(nn.ResidualQuantizer(inner, STAGES), 2)

    def states():
        return {f"groups_{number}": states_of(stages) for number, stages in enumerate(theirs.rvqs)}

    variables = {"codebook": states()}
    for z in batches(2 * WIDTH):
        weight = np.float32(1.0) + z[::-1]
        given = torch.tensor(z, requires_grad=True)
        quantized, indices, losses = theirs(given)
        # Ours is the mean over the groups, theirs are the losses of each.
        ((quantized * torch.tensor(weight)).sum() + losses.sum() / 2 * 10.0).backward()
        out, variables, gradient = ours_of(ours, variables, z, weight)
        np.testing.assert_array_equal(out.indices, np.concatenate(list(array(indices)), axis=-1))
        close(out.quantized, array(quantized))
        close(out.loss, array(losses).sum() / 2)
        close(gradient, array(given.grad))
        jax.tree.map(close, variables["codebook"], states())
