"""Convolutions in the CPU's form equal the plain ones, and so do their gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops
from vq_jax.ops import convolution


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def gradients(function, x, kernel):
    """Result and both gradients for a random weight of the output's pixels."""
    weight = normal(*jax.eval_shape(function, x, kernel).shape, seed=2)
    return jax.jit(jax.value_and_grad(lambda x, k: jnp.sum(weight * function(x, k)), (0, 1)))(x, kernel)


@functools.cache
def transposed(spatial, inputs, outputs):
    """Pictures, a kernel, and the plain result with its gradients."""
    x = normal(2, *spatial, inputs)
    kernel = normal(*(4,) * len(spatial), inputs, outputs, seed=1)
    return x, kernel, gradients(convolution._transposed, x, kernel)


@pytest.mark.parametrize("spatial", [(7,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("inputs,outputs", [(3, 5), (20, 1)])
@pytest.mark.parametrize("form", [convolution._sub_pixel, ops.double_conv_transpose])
def test_both_forms_and_their_gradients_agree(spatial, inputs, outputs, form):
    x, kernel, expected = transposed(spatial, inputs, outputs)
    actual = gradients(form, x, kernel)
    # sums of up to 8 * 20 products, and over all pixels, in another order
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "spatial,width,stride,padding",
    [
        ((6, 7), 3, 1, (1, 1)),
        ((7, 6), 3, 2, (0, 1)),
        ((3, 4, 5), 3, 1, (1, 1)),
        ((8, 6), 4, 2, (1, 1)),
        ((40, 15), 3, 1, (1, 1)),
        ((5, 6), 4, 1, (2, 0)),
    ],
)
@pytest.mark.parametrize("inputs,outputs", [(3, 20), (20, 3), (48, 48)])
def test_the_convolution_and_its_gradients_equal_the_plain_ones(
    spatial, width, stride, padding, inputs, outputs
):
    n = len(spatial)
    x, kernel = normal(2, *spatial, inputs), normal(*(width,) * n, inputs, outputs, seed=1)
    arguments = (stride,) * n, (padding,) * n
    expected = gradients(lambda x, k: convolution._plain_conv(x, k, *arguments), x, kernel)
    actual = gradients(lambda x, k: ops.conv(x, k, *arguments), x, kernel)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        # sums of up to 48 * 27 products in another order
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("inputs,outputs,uses_xla", [(48, 48, False), (16, 16, True), (3, 16, False)])
def test_the_cpu_takes_products_for_the_weight_gradient_where_they_are_faster(inputs, outputs, uses_xla):
    x, kernel = normal(1, 4, 4, inputs), normal(3, 3, inputs, outputs)
    grad = jax.jit(jax.grad(lambda k, x: jnp.sum(ops.conv(x, k, (1, 1), ((1, 1), (1, 1)))))).lower(kernel, x)
    assert grad.as_text().count("stablehlo.convolution") == uses_xla


@pytest.mark.parametrize("spatial", [(7,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("inputs,outputs", [(3, 5), (20, 1)])
def test_upsampling_and_convolution_at_once_equals_one_after_the_other(spatial, inputs, outputs):
    x, kernel = normal(2, *spatial, inputs), normal(*(3,) * len(spatial), inputs, outputs, seed=1)
    expected = gradients(convolution._upsample_then_conv, x, kernel)
    for function in (convolution._upsample_conv_at_once, ops.upsample_conv):
        actual = gradients(function, x, kernel)
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
            # sums of up to 27 * 20 products in another order
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max())
