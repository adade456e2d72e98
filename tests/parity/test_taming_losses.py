"""PatchGAN discriminator, adversarial losses and adaptive weight against taming-transformers."""

import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from vq_jax.nn.discriminators import PatchDiscriminator
from vq_jax.ops.adversarial import adaptive_weight, discriminator_loss, generator_adversarial_loss

REASON = "pip install vq-jax[parity]"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their imports
    torch = pytest.importorskip("torch", reason=REASON)
    pytest.importorskip("torchvision", reason=REASON)
    pytest.importorskip("taming.modules.discriminator.model", reason=REASON)
    theirs = importlib.import_module("taming.modules.losses.vqperceptual")

# float32 convolutions summed in another order
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def to_torch(x):
    """Channels last to channels first."""
    return torch.from_numpy(np.moveaxis(np.array(x), -1, 1).copy())


def from_torch(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def convert(state):
    """A torch state of theirs as variables of ours, name by name."""
    params, stats = {}, {}
    for key, value in state.items():
        name, field = key.replace("main.", "main_").split(".")
        array = jnp.asarray(value.numpy())
        if field.startswith("running"):
            stats.setdefault(name, {})[field.removeprefix("running_")] = array
        elif field == "bias":
            params.setdefault(name, {})["bias"] = array
        elif field == "weight":
            kernel = array.ndim == 4
            leaf = {"kernel": array.transpose(2, 3, 1, 0)} if kernel else {"scale": array}
            params.setdefault(name, {}).update(leaf)
    return {"params": params, "batch_stats": stats}


def pair(num_layers, channels=8):
    torch.manual_seed(num_layers)
    other = theirs.NLayerDiscriminator(3, channels, num_layers).apply(theirs.weights_init)
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that they are seen in evaluation
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    return other, PatchDiscriminator(channels, num_layers)


def pictures(side, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (3, side, side + 5, 3)), jnp.float32)


def test_the_default_discriminator_has_their_layers_and_parameter_count():
    other = theirs.NLayerDiscriminator()
    ours = jax.eval_shape(PatchDiscriminator().init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    converted = convert(other.state_dict())
    assert jax.tree.map(jnp.shape, converted) == jax.tree.map(lambda leaf: leaf.shape, ours)
    count = sum(p.numel() for p in other.parameters())
    assert count == sum(leaf.size for leaf in jax.tree.leaves(ours["params"])) == 2_765_633


@pytest.mark.parametrize("num_layers", [2, 3])
def test_logits_statistics_and_gradients_match_in_training_and_evaluation(num_layers):
    other, ours = pair(num_layers)
    variables, x = convert(other.state_dict()), pictures(40)
    np.testing.assert_allclose(ours.apply(variables, x), from_torch(other.eval()(to_torch(x))), **TOLERANCE)

    @jax.jit
    def step(params, x):
        def loss(params, x):
            logits, updates = ours.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return discriminator_loss(logits, -logits, "hinge"), (logits, updates)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

    (_, (logits, updates)), (grads, picture_grad) = step(variables["params"], x)
    inputs = to_torch(x).requires_grad_()
    expected = other.train()(inputs)
    theirs.hinge_d_loss(expected, -expected).backward()
    np.testing.assert_allclose(logits, from_torch(expected), **TOLERANCE)
    after = convert(other.state_dict())["batch_stats"]
    assert jax.tree.structure(after) == jax.tree.structure(updates["batch_stats"])
    for actual, wanted in zip(jax.tree.leaves(updates["batch_stats"]), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)  # means in another order
    wanted = convert({name: parameter.grad for name, parameter in other.named_parameters()})["params"]
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        leaf = wanted[path[0].key][path[1].key]
        scale = np.abs(leaf).max()
        # of the tensor's largest value; batch norm takes away the mean, which cancels
        np.testing.assert_allclose(grad, leaf, rtol=0, atol=1e-3 * scale, err_msg=str(path))
    picture_wanted = from_torch(inputs.grad)
    np.testing.assert_allclose(picture_grad, picture_wanted, rtol=0, atol=1e-3 * np.abs(picture_wanted).max())


@pytest.mark.parametrize("kind", ["hinge", "vanilla"])
def test_losses_and_their_gradients_match(kind):
    rng = np.random.default_rng(1)
    real, fake = (rng.normal(0, 2, (4, 5, 5, 1)).astype(np.float32) for _ in range(2))
    their_real, their_fake = (to_torch(x).requires_grad_() for x in (real, fake))
    expected = {"hinge": theirs.hinge_d_loss, "vanilla": theirs.vanilla_d_loss}[kind](their_real, their_fake)
    expected.backward()
    value, grads = jax.value_and_grad(discriminator_loss, (0, 1))(jnp.asarray(real), jnp.asarray(fake), kind)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-6)  # one float32 mean
    np.testing.assert_allclose(grads[0], from_torch(their_real.grad), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(grads[1], from_torch(their_fake.grad), rtol=1e-5, atol=1e-8)
    # their generator's loss is written out in a longer function
    their_fake.grad = None
    (-torch.mean(their_fake)).backward()
    grad = jax.grad(generator_adversarial_loss)(jnp.asarray(fake), kind)
    np.testing.assert_allclose(grad, from_torch(their_fake.grad), rtol=1e-6)


@pytest.mark.parametrize("gain", [1.0, 1e-6])
def test_adaptive_weight_of_a_two_layer_generator_matches(gain):
    """`gain` scales the discriminator's last kernel: at 1e-6 their epsilon decides."""
    other, ours = pair(2)
    with torch.no_grad():
        other.main[-1].weight.mul_(gain)
    variables, x = convert(other.state_dict()), pictures(16)
    torch.manual_seed(7)
    first, last = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Conv2d(6, 3, 3, padding=1)
    # their class without the perceptual network, whose weights it would download
    losses = object.__new__(theirs.VQLPIPSWithDiscriminator)
    torch.nn.Module.__init__(losses)
    losses.discriminator_weight = 1.0
    target = to_torch(x)
    reconstruction = last(torch.tanh(first(target)))
    their_loss = torch.mean(torch.abs(target - reconstruction))
    their_adversarial = -torch.mean(other.train()(reconstruction))
    expected = losses.calculate_adaptive_weight(their_loss, their_adversarial, last.weight)

    def kernel_of(layer):
        return jnp.asarray(layer.weight.detach().numpy()).transpose(2, 3, 1, 0)

    def conv(layer, kernel, x):
        params = {"params": {"kernel": kernel, "bias": jnp.asarray(layer.bias.detach().numpy())}}
        return linen.Conv(layer.out_channels, (3, 3)).apply(params, x)

    hidden = jnp.tanh(conv(first, kernel_of(first), x))

    def reconstruct(kernel):
        return conv(last, kernel, hidden)

    def reconstruction_loss(kernel):
        return jnp.mean(jnp.abs(x - reconstruct(kernel)))

    def adversarial_loss(kernel):
        return generator_adversarial_loss(ours.apply(variables, reconstruct(kernel), train=True), "hinge")

    kernel = kernel_of(last)
    weight = adaptive_weight(jax.grad(reconstruction_loss)(kernel), jax.grad(adversarial_loss)(kernel))
    assert 0.0 < float(weight) < 1e4
    np.testing.assert_allclose(weight, expected.item(), rtol=1e-3)  # norms of gradients through batch norm
