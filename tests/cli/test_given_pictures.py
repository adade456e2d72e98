"""Commands that take whole folders of pictures."""

import os
import shutil
import types

import cli_runs
import numpy as np
import pytest
from cli_runs import call, pictures
from PIL import Image

from vq_jax.cli import codes
from vq_jax.cli.files import CodesFile, read_codes, write_codes
from vq_jax.cli.given_pictures import PictureStream, find_pictures
from vq_jax.configs import DataConfig
from vq_jax.errors import UserError


@pytest.fixture(scope="session")
def run():
    return cli_runs.trained_run()


@pytest.fixture
def folder(tmp_path):
    """Nine pictures in a folder and its subfolders, one of another size, one hidden, and one broken file."""
    root = tmp_path / "pictures"
    for index, (name, picture) in enumerate(
        zip(
            "a/one.png a/two.png b/one.png c.png d.png e.png .hidden.png".split(),
            pictures(7, 16, 16),
            strict=True,
        )
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[:8] if index == 3 else picture).save(root / name)
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(40))
    (root / "notes.txt").write_text("no picture")
    return root


def test_a_folder_is_encoded_and_reconstructed_without_what_cannot_be_read(
    run, folder, tmp_path, capsys, caplog
):
    assert call("encode", run, folder, "-o", tmp_path / "codes.npz") == 0
    assert capsys.readouterr().out == f"6 pictures (1 left out), {tmp_path / 'codes.npz'}\n"
    assert "broken.jpg cannot be read" in caplog.text
    names, sizes, codes = read_codes(tmp_path / "codes.npz")[:3]
    assert names == ["one", "two", "one-1", "c", "d", "e"] and sizes[3] == (8, 16)
    with np.load(tmp_path / "codes.npz") as file:
        assert file["files"].tolist()[2] == str(folder / "b" / "one.png")
    assert call("encode", run, folder / "c.png", folder / "e.png", "-o", tmp_path / "two.npz") == 0
    for one, other in zip(read_codes(tmp_path / "two.npz")[2], (codes[3], codes[5]), strict=True):
        np.testing.assert_array_equal(one, other)
    capsys.readouterr()
    for _ in range(2):  # what the first writes is not taken for input by the second
        assert call("reconstruct", run, folder, "-o", folder / "out") == 0
        assert "6 pictures (1 left out): mean PSNR" in capsys.readouterr().out
    assert sorted(path.stem for path in (folder / "out").iterdir()) == sorted(names)


@pytest.mark.parametrize(
    "places, message",
    [
        ([], "at least one picture file or folder"),
        (["nowhere"], "no such picture: nowhere"),
        (["pipe.png"], "expected a file, pipe.png is a pipe"),
        (["empty"], "expected pictures in empty"),
        (["out"], "besides those in out/deep"),
    ],
)
def test_places_without_pictures_are_named(places, message, tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    os.mkfifo("pipe.png")
    Path("out/deep").mkdir(parents=True)
    Image.fromarray(pictures(1, 4, 4)[0]).save("out/deep/a.png")
    with pytest.raises(UserError, match=message):
        find_pictures([Path(place) for place in places], Path("out/deep"))


class Taker:
    """What a stream of pictures asks of a tokenizer."""

    channels = 3
    config = types.SimpleNamespace(data=DataConfig())
    model = types.SimpleNamespace(padded_lengths=lambda sides: tuple(-(-side // 4) * 4 for side in sides))

    def check(self, pictures):
        pass


@pytest.mark.parametrize("sides, said", [(range(16, 44, 4), 0), (range(16, 80, 4), 1), ([17, 18, 19] * 9, 0)])
def test_many_sizes_are_said_once(tmp_path, caplog, sides, said):
    caplog.set_level("INFO", logger="vq_jax")
    for number, side in enumerate(sides):
        Image.new("RGB", (side, 16)).save(tmp_path / f"{number:03}.png")
    for _ in PictureStream(find_pictures([tmp_path], tmp_path / "out"), Taker()):
        pass
    assert sum("pictures of many sizes" in record.getMessage() for record in caplog.records) == said


def test_codes_are_written_in_shards_and_decoded_from_them(run, folder, tmp_path, capsys):
    shards = [tmp_path / f"codes-{number:05}.npz" for number in range(2)]
    assert call("encode", run, folder, "-o", tmp_path / "codes.npz", "--shard-rows", 4) == 0
    assert capsys.readouterr().out == f"6 pictures (1 left out), {shards[0]} to codes-00001.npz\n"
    assert [read_codes(path).names for path in shards] == [["one", "two", "one-1", "c"], ["d", "e"]]
    assert sorted(tmp_path.glob("*.npz")) == shards
    assert call("decode", run, *shards, "-o", tmp_path / "decoded") == 0
    assert call("encode", run, folder, "-o", tmp_path / "whole.npz") == 0
    assert call("decode", run, tmp_path / "whole.npz", "-o", tmp_path / "other") == 0
    for name in ("one", "two", "one-1", "c", "d", "e"):
        made = [(tmp_path / place / f"{name}.png").read_bytes() for place in ("decoded", "other")]
        assert made[0] == made[1]
    capsys.readouterr()
    assert call("encode", run, folder, "-o", tmp_path / "codes.npz", "--shard-rows", 5) == 2
    assert "codes-00000.npz is there already" in capsys.readouterr().err
    assert call("encode", run, folder, "-o", tmp_path / "codes.npz", "--shard-rows", 0) == 2


def test_codes_of_one_size_are_decoded_in_bounded_batches_in_their_order():
    sizes = [(8, 8)] * 35 + [(8, 4)] + [(8, 8)] + [(2048, 2048)] * 2 + [(1024, 1024)] * 5
    grids = [np.full((height // 4, width // 4), n) for n, (height, width) in enumerate(sizes)]
    batches = list(codes._alike(CodesFile([""] * len(sizes), sizes, grids)))
    assert [len(batch) for batch, _ in batches] == [16, 16, 1, 1, 1, 1, 1, 1, 1, 4, 1]
    assert [int(grid[0, 0]) for batch, _ in batches for grid in batch] == list(range(len(sizes)))
    assert [size for batch, size in batches for _ in batch] == sizes
    assert codes._together([(np.zeros((2, 3)), np.ones(4))] * 5)[0].shape == (5, 2, 3)


def test_names_of_250_bytes_go_through_every_command(run, folder, tmp_path):
    long = "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 123 + ".png"
    place = shutil.copy(folder / "c.png", tmp_path / long)
    assert len(os.fsencode(long)) == 250
    assert call("reconstruct", run, place, "-o", tmp_path / "both") == 0
    assert call("encode", run, place, "-o", tmp_path / long) == 0
    assert call("decode", run, tmp_path / f"{long}.npz", "-o", tmp_path / "decoded") == 0
    assert [path.name for place in ("both", "decoded") for path in (tmp_path / place).iterdir()] == [long] * 2


def test_batches_have_one_size_and_their_lengths_are_powers_of_two(folder):
    given = find_pictures([folder], folder.parent / "out")
    batches = [
        ([picture.name for picture in batch], pixels.shape) for batch, pixels in PictureStream(given, Taker())
    ]
    assert batches == [
        (["one", "two", "one-1"], (4, 16, 16, 3)),
        (["c"], (1, 8, 16, 3)),
        (["d", "e"], (2, 16, 16, 3)),
    ]


def test_codes_of_another_tokenizer_are_refused_unless_forced(run, folder, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    shutil.rmtree(other / "checkpoints" / str(cli_runs.STEPS))  # the run as it was two steps before
    assert call("encode", run, folder / "c.png", "-o", tmp_path / "codes.npz") == 0
    capsys.readouterr()
    assert call("decode", other, tmp_path / "codes.npz", "-o", tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "another tokenizer (vqvae-photos, step 4) than the one in" in message and "or --force" in message
    assert not (tmp_path / "out").exists()
    assert call("decode", other, tmp_path / "codes.npz", "-o", tmp_path / "out", "--force") == 0
    found = read_codes(tmp_path / "codes.npz")
    write_codes(tmp_path / "old.npz", found.names, found.sizes, found.codes)  # as before there were any
    assert call("decode", run, tmp_path / "old.npz", "-o", tmp_path / "old") == 0
