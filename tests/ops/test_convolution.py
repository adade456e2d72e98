"""The sub-pixel form of the transposed convolution equals the plain one, gradients too."""

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
        return jax.value_and_grad(lambda x, k: jnp.sum(weight * function(x, k)), (0, 1))(x, kernel)

    expected, actual = run(convolution._transposed), run(form)
    # sums of up to 8 * 20 products, and over all pixels, in another order
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
