"""The digest sees every bit and every place, and no sharding."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vq_jax.runs.digest import leaf_names, leaf_types, tree_digest

DTYPES = [
    np.float32,
    np.float16,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    np.int32,
    np.uint32,
    np.int16,
    np.uint8,
    np.int8,
]


def digest(tree):
    return {name: tuple(np.asarray(d).tolist()) for name, d in tree_digest(tree).items()}


def random_array(rng, shape, dtype):
    """Any bit pattern, not-a-numbers included."""
    itemsize = np.dtype(dtype).itemsize
    raw = rng.integers(0, 256, size=(*shape, itemsize), dtype=np.uint8)
    return raw.view(dtype)[..., 0]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_flipping_any_one_bit_changes_both_words_of_the_digest(dtype):
    rng = np.random.default_rng(0)
    array = random_array(rng, (5, 3, 4), dtype)
    before = digest(jnp.asarray(array))[""]
    bits = array.size * array.dtype.itemsize * 8
    for bit in rng.choice(bits, size=64, replace=False):
        flipped = bytearray(array.tobytes())
        flipped[bit // 8] ^= 1 << (bit % 8)
        changed = np.frombuffer(bytes(flipped), dtype).reshape(array.shape)
        after = digest(jnp.asarray(changed))[""]
        assert after[0] != before[0] and after[1] != before[1]


@pytest.mark.parametrize("dtype", [*DTYPES, np.bool_], ids=lambda d: np.dtype(d).name)
def test_an_array_on_the_host_has_the_digest_that_devices_compute(dtype, monkeypatch):
    monkeypatch.setattr("vq_jax.runs.digest._BLOCK", 7)
    array = random_array(np.random.default_rng(0), (5, 3, 4), np.uint8 if dtype == np.bool_ else dtype)
    array = array % 2 == 0 if dtype == np.bool_ else array
    assert digest(array.swapaxes(0, 2)) == digest(jnp.asarray(array.swapaxes(0, 2)))


def test_flipping_a_bool_or_a_word_of_a_key_changes_the_digest():
    flags = np.array([True, False, True])
    for position in range(3):
        changed = flags.copy()
        changed[position] = not changed[position]
        assert digest(jnp.asarray(changed)) != digest(jnp.asarray(flags))
    key = jax.random.key(3)
    assert digest(key) == digest(jax.random.clone(key))
    assert digest(key) != digest(jax.random.fold_in(key, 0))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_swapping_two_unequal_elements_changes_the_digest(dtype):
    rng = np.random.default_rng(1)
    array = random_array(rng, (40,), dtype)
    before = digest(jnp.asarray(array))
    for _ in range(40):
        first, second = rng.choice(array.size, size=2, replace=False)
        swapped = array.copy()
        swapped[[first, second]] = swapped[[second, first]]
        unequal = array[first].tobytes() != array[second].tobytes()
        assert (digest(jnp.asarray(swapped)) != before) == unequal


def test_swapping_a_number_with_its_negative_changes_the_digest():
    assert digest(jnp.array([1.5, 2.0, -1.5])) != digest(jnp.array([-1.5, 2.0, 1.5]))
    assert digest(jnp.array([0.0, 2.0, -0.0])) != digest(jnp.array([-0.0, 2.0, 0.0]))


def test_permuting_rows_or_transposing_changes_the_digest():
    array = jnp.arange(16.0, dtype=jnp.float32).reshape(4, 4)
    assert digest(array[::-1]) != digest(array)
    assert digest(array.T) != digest(array)


@pytest.mark.parametrize("spec", [("data",), (None, "data"), (None, None, "data"), ()])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int32, np.bool_])
def test_a_sharded_array_has_the_digest_of_the_unsharded_one(spec, dtype):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    array = np.random.default_rng(2).integers(0, 100, size=(8, 4, 12)).astype(dtype)
    sharded = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
    assert digest(sharded) == digest(jnp.asarray(array))


def test_the_digest_under_jit_is_the_eager_one():
    tree = {
        "weights": jnp.linspace(-1, 1, 12, dtype=jnp.float32).reshape(3, 4),
        "half": jnp.linspace(-1, 1, 5, dtype=jnp.bfloat16),
        "flag": jnp.array(True),
        "step": jnp.int32(7),
        "key": jax.random.key(0),
        "nothing": None,
    }
    jitted = {name: tuple(np.asarray(d).tolist()) for name, d in jax.jit(tree_digest)(tree).items()}
    assert jitted == digest(tree)
    assert set(jitted) == {"['weights']", "['half']", "['flag']", "['step']", "['key']"}


def test_scalars_of_python_count_as_the_arrays_they_become():
    assert digest({"a": 3, "b": 0.5, "c": True}) == digest(
        {"a": jnp.int32(3), "b": jnp.float32(0.5), "c": jnp.array(True)}
    )


def test_a_leaf_of_64_bits_is_an_error_that_names_it():
    for leaf in (np.zeros(2), np.zeros(2, np.int64), np.zeros(2, np.complex64), np.float64(1.0)):
        with pytest.raises(ValueError, match=r"\['wide'\].*8, 16 or 32 bits"):
            tree_digest({"wide": leaf})


def test_a_leaf_that_is_no_array_is_an_error_that_names_it():
    for leaf in ("text", jnp.zeros(3, jnp.int4), object()):
        with pytest.raises(ValueError, match=r"\['odd'\]"):
            tree_digest({"odd": leaf})


def test_names_are_the_paths_of_the_leaves_in_order():
    assert list(leaf_names({"b": [1, (2, None)], "a": 3})) == ["['a']", "['b'][0]", "['b'][1][0]"]


def test_types_name_dtype_and_shape():
    tree = {"a": jnp.zeros((3, 4), jnp.bfloat16), "key": jax.random.key(0)}
    assert leaf_types(tree) == {"['a']": "bfloat16[3,4]", "['key']": "key<fry>[]"}
