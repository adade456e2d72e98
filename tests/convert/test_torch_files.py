"""Files of weights are read without PyTorch, and nothing in them runs."""

import io
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from vq_jax.convert.torch_writer import torch_file
from vq_jax.convert.weights_file import open_weights
from vq_jax.errors import UserError

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {
        "encoder.weight": rng.normal(size=(3, 2, 1, 1)).astype(np.float32),
        "half": rng.normal(size=(2, 2)).astype(np.float16),
        "brain": rng.normal(size=(4,)).astype(ml_dtypes.bfloat16),
        "count": np.array(7, np.int64),
        "none": np.zeros((0, 3), np.float32),
    }


def archive_of(content, data=()):
    """A zip archive as torch.save writes one, around a pickle made by hand."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for number, part in enumerate(data):
            archive.writestr(f"archive/data/{number}", part)
    return file.getvalue()


def in_a_row(content, keys=(), data=b""):
    """A file as torch.save wrote them before the archives."""
    parts = [MAGIC, pickle.dumps(1001, protocol=2), pickle.dumps({"little_endian": True}, protocol=2)]
    return b"".join([*parts, content, pickle.dumps(list(keys), protocol=2), data])


def opened(tmp_path, content, within=("state_dict",)):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(content)
    return open_weights(path, within)


@pytest.mark.parametrize("within", [None, "state_dict"])
def test_what_is_written_is_read_back_to_the_bit(tmp_path, tensors, within):
    file = opened(tmp_path, torch_file(tensors, within))
    assert list(file.tensors) == list(tensors)
    for name, tensor in tensors.items():
        found = file.array(name)
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert found.tobytes() == tensor.tobytes()


def tensor_pickle(storage=b"FloatStorage", count=6, size=(2, 3), strides=(3, 1), offset=0):
    """A state dict with one tensor `a`; numbers are those of a pickle of protocol 0."""

    def numbers(values):
        return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"

    saved = b"(X\x07\x00\x00\x00storagectorch\n" + storage + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    saved += b"I%d\ntQ" % count
    rest = b"I%d\n" % offset + numbers(size) + numbers(strides) + b"\x89N"
    return b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + saved + rest + b"tRs."


def test_strides_are_followed(tmp_path):
    values = np.arange(6, dtype=np.float32)
    content = archive_of(tensor_pickle(size=(3, 2), strides=(1, 3)), [values.tobytes()])
    assert opened(tmp_path, content).array("a").tolist() == [[0, 3], [1, 4], [2, 5]]


def test_files_from_before_the_archives_are_read(tmp_path):
    values = np.arange(6, dtype=np.float32)
    data = struct.pack("<q", 6) + values.tobytes()
    file = opened(tmp_path, in_a_row(tensor_pickle().replace(b"tQ", b"NtQ"), ["0"], data))
    assert file.array("a").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "fields", [{"offset": 1}, {"strides": (4, 1)}, {"offset": -1}, {"strides": (-3, 1)}, {"size": (9, 9)}]
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, fields):
    content = archive_of(tensor_pickle(**fields), [np.zeros(6, np.float32).tobytes()])
    with pytest.raises(UserError, match="damaged or incomplete: a cannot be read"):
        opened(tmp_path, content).array("a")


class Marker:
    """Unpickled by Python itself, writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def malicious(ran):
    yield pickle.dumps({"a": Marker(ran)}, protocol=2)
    yield b"\x80\x02cos\nsystem\nX%ctouch %s\x85R." % (0, b"x")  # damaged as well
    text = f"touch {ran}".encode()
    yield b"\x80\x02cposix\nsystem\nX" + struct.pack("<I", len(text)) + text + b"\x85R."
    yield b"(S'" + text + b"'\nios\nsystem\n."
    yield b"\x80\x02cbuiltins\neval\nX" + struct.pack("<I", 3) + b"1/0\x85R."
    yield b"\x80\x02c__builtin__\ngetattr\n}X\x06\x00\x00\x00update\x86R."
    yield b"\x80\x02csubprocess\nPopen\n]\x85R."


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("form", [archive_of, in_a_row, bytes])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, number, form):
    content = list(malicious(tmp_path / "ran"))[number]
    with pytest.raises(UserError, match="asks for|damaged or incomplete|not one that torch.save wrote|read"):
        opened(tmp_path, form(content))
    assert not (tmp_path / "ran").exists()


def test_the_refusal_names_what_the_pickle_asks_for(tmp_path):
    content = archive_of(b"\x80\x02cposix\nsystem\nX\x01\x00\x00\x00x\x85R.")
    with pytest.raises(UserError, match="asks for posix.system"):
        opened(tmp_path, content)


def test_classes_of_other_packages_become_objects_that_do_nothing(tmp_path):
    hook = b"X\x05\x00\x00\x00hooksclightning.hooks\nHook\n)\x81}X\x01\x00\x00\x00xK\x01sb"
    whole = tensor_pickle()[:-1] + hook + b"s."
    file = opened(tmp_path, archive_of(whole, [np.ones(6, np.float32).tobytes()]))
    assert list(file.tensors) == ["a"] and file.array("a").sum() == 6


@pytest.mark.parametrize("end", [3, 40, 0.5, -1])
def test_a_truncated_file_is_refused(tmp_path, tensors, end):
    content = torch_file(tensors)
    end = int(len(content) * end) if isinstance(end, float) else end
    with pytest.raises(UserError, match="damaged or incomplete|cannot be read"):
        opened(tmp_path, content[:end])


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected a file of PyTorch, safetensors or flax"):
        opened(tmp_path, b"\x89PNG\r\n\x1a\n" + bytes(64))
    with pytest.raises(UserError, match="is empty"):
        opened(tmp_path, b"")
    with pytest.raises(UserError, match="without a data.pkl"):
        opened(tmp_path, torch_file({}).replace(b"data.pkl", b"data.txt"))
    with pytest.raises(UserError, match="no tensors at the top, nor under state_dict: it has nothing"):
        opened(tmp_path, torch_file({}))
    with pytest.raises(UserError, match="there is no file"):
        open_weights(tmp_path / "nothing.ckpt", ())
    with pytest.raises(UserError, match="has no file of weights: expected one of"):
        open_weights(tmp_path, ())
