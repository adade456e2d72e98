"""Labels of the random projection against vector-quantize-pytorch, given its matrix and vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
peer = pytest.importorskip("vector_quantize_pytorch")

from vq_jax import nn  # noqa: E402


def test_labels_are_equal():
    z = np.random.default_rng(0).normal(1.0, 3.0, (8, 64, 80)).astype(np.float32)
    torch.manual_seed(0)
    theirs = peer.RandomProjectionQuantizer(dim=80, codebook_size=1024, codebook_dim=16)
    with torch.no_grad():
        labels = theirs(torch.tensor(z)).numpy()
    table = {
        "projection": jnp.asarray(theirs.rand_projs[0].numpy()),
        "codes": jnp.asarray(theirs.vq.codebook.detach().numpy().reshape(1024, 16)),
    }
    ours = nn.RandomProjectionQuantizer(1024, 80, 16)
    np.testing.assert_array_equal(jax.jit(ours.apply)({"codebook": table}, z).indices, labels)
