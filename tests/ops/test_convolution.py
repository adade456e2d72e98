"""Convolutions in the CPU's form equal the plain ones, and so do their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops
from vq_jax.ops import convolution


@pytest.mark.parametrize("spatial", [(7,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("inputs,outputs", [(3, 5), (20, 1)])
@pytest.mark.parametrize("form", [convolution._sub_pixel, ops.double_conv_transpose])
def test_both_forms_and_their_gradients_agree(getkey, spatial, inputs, outputs, form):
    x = jax.random.normal(getkey(), (2, *spatial, inputs))
    kernel = jax.random.normal(getkey(), (4,) * len(spatial) + (inputs, outputs))
    weight = jax.random.normal(getkey(), (2, *(2 * size for size in spatial), outputs))

    def run(function):
        return jax.jit(jax.value_and_grad(lambda x, k: jnp.sum(weight * function(x, k)), (0, 1)))(x, kernel)

    expected, actual = run(convolution._transposed), run(form)
    # sums of up to 8 * 20 products, and over all pixels, in another order
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def gradients(function, getkey, x, kernel):
    """Result and both gradients for a random weight of the output's pixels."""
    weight = jax.random.normal(getkey(), jax.eval_shape(function, x, kernel).shape)
    return jax.jit(jax.value_and_grad(lambda x, k: jnp.sum(weight * function(x, k)), (0, 1)))(x, kernel)


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
    getkey, spatial, width, stride, padding, inputs, outputs
):
    n = len(spatial)
    x = jax.random.normal(getkey(), (2, *spatial, inputs))
    kernel = jax.random.normal(getkey(), (width,) * n + (inputs, outputs))
    arguments = (stride,) * n, (padding,) * n
    key = getkey()
    expected = gradients(lambda x, k: convolution._plain_conv(x, k, *arguments), lambda: key, x, kernel)
    actual = gradients(lambda x, k: ops.conv(x, k, *arguments), lambda: key, x, kernel)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        # sums of up to 48 * 27 products in another order
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(a).max()))


@pytest.mark.parametrize("inputs,outputs,uses_xla", [(48, 48, False), (16, 16, True), (3, 16, False)])
def test_the_cpu_takes_products_for_the_weight_gradient_where_they_are_faster(inputs, outputs, uses_xla):
    x, kernel = jnp.ones((1, 4, 4, inputs)), jnp.ones((3, 3, inputs, outputs))
    grad = jax.jit(jax.grad(lambda k, x: jnp.sum(ops.conv(x, k, (1, 1), ((1, 1), (1, 1)))))).lower(kernel, x)
    assert grad.as_text().count("stablehlo.convolution") == uses_xla


@pytest.mark.parametrize("spatial", [(7,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("inputs,outputs", [(3, 5), (20, 1)])
def test_upsampling_and_convolution_at_once_equals_one_after_the_other(getkey, spatial, inputs, outputs):
    x = jax.random.normal(getkey(), (2, *spatial, inputs))
    kernel = jax.random.normal(getkey(), (3,) * len(spatial) + (inputs, outputs))
    key = getkey()
    expected = gradients(convolution._upsample_then_conv, lambda: key, x, kernel)
    for function in (convolution._upsample_conv_at_once, ops.upsample_conv):
        actual = gradients(function, lambda: key, x, kernel)
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
            # sums of up to 27 * 20 products in another order
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(a).max()))
