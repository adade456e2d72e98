"""Files of weights as PyTorch itself writes and reads them."""

import argparse
import collections
import os

import numpy as np
import pytest

from vq_jax.convert.torch_writer import torch_file
from vq_jax.convert.weights_file import open_weights
from vq_jax.errors import UserError

torch = pytest.importorskip("torch", reason="pip install vq-jax[parity]")
save_file = pytest.importorskip("safetensors.torch").save_file


def state():
    found = collections.OrderedDict(
        whole=torch.randn(3, 4),
        count=torch.arange(5),
        turned=torch.randn(4, 3).T[1:],
        half=torch.randn(3).half(),
        brain=torch.randn(2, 2).bfloat16(),
        single=torch.tensor(3.5),
        none=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(2)),
        seen=torch.tensor([True, False]),
    )
    found._metadata = {"": {"version": 1}}  # as modules leave it
    return found


def same(array, tensor):
    tensor = tensor.detach()
    return array.shape == tuple(tensor.shape) and np.array_equal(
        array.astype(np.float64), tensor.double().numpy()
    )


@pytest.mark.parametrize("archive", [True, False])
def test_what_torch_saves_is_read(tmp_path, archive):
    tensors = state()
    top = {
        "state_dict": tensors,
        "global_step": 7,
        "settings": argparse.Namespace(width=1),
        "number": np.float64(3.0),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "optimizer": torch.optim.Adam([tensors["parameter"]]).state_dict(),
    }
    path = tmp_path / "file.ckpt"
    torch.save(top, path, _use_new_zipfile_serialization=archive)
    file = open_weights(path, ("state_dict",))
    assert file.others["global_step"] == 7 and list(file.tensors) == list(tensors)
    assert all(same(file.array(name), tensor) for name, tensor in tensors.items())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged or incomplete"):
        [open_weights(path, ("state_dict",)).array(name) for name in tensors]


@pytest.mark.parametrize("within", [None, "state_dict"])
def test_what_is_written_is_what_torch_loads(tmp_path, within):
    tensors = state()
    path = tmp_path / "file.pt"
    torch.save(tensors, path)
    read = open_weights(path, ())
    path.write_bytes(torch_file({name: read.array(name) for name in tensors}, within))
    loaded = torch.load(path, weights_only=True)
    loaded = loaded if within is None else loaded[within]
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor.detach())


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("archive", [True, False])
def test_nothing_runs_that_a_file_of_torch_asks_for(tmp_path, archive):
    path = tmp_path / "file.ckpt"
    top = {"state_dict": {"a": torch.zeros(1)}, "hooks": Malicious(tmp_path / "ran")}
    torch.save(top, path, _use_new_zipfile_serialization=archive)
    with pytest.raises(UserError, match="asks for posix.system"):
        open_weights(path, ("state_dict",))
    assert not (tmp_path / "ran").exists()


def test_safetensors_are_read(tmp_path):
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in state().items()}
    save_file(tensors, tmp_path / "file.safetensors")
    file = open_weights(tmp_path / "file.safetensors", ())
    assert all(same(file.array(name), tensor) for name, tensor in tensors.items())
