"""The commands between projects: `vq-jax convert` and `vq-jax export`."""

from typing import Annotated

import tyro

from vq_jax.cli.files import OutputDir, Run
from vq_jax.configs.fields import MODEL, PATH
from vq_jax.ranges import between

_Format = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FORMAT")]
_File = Annotated[str, PATH, tyro.conf.Positional, tyro.conf.arg(metavar="FILE|FOLDER")]
_Target = Annotated[str, PATH, tyro.conf.arg(name="output", aliases=["-o"], metavar="FILE|FOLDER")]
_To = Annotated[str, tyro.conf.arg(metavar="FORMAT")]
_Tokenizer = Annotated[str | None, MODEL, tyro.conf.arg(metavar="DIR")]
_Size = Annotated[int, between(4, 2**16), tyro.conf.arg(metavar="N")]


def convert(
    format: _Format, file: _File, output: OutputDir, image_size: _Size = 256, tokenizer: _Tokenizer = None
) -> int:
    """Turn weights of another project into a model directory.

    Formats: taming, diffusers, llamagen, llamagen-gpt, maskgit, maskgit-transformer, open-magvit2, ibq.

    Args:
      format: whose file it is.
      file: file of weights, of PyTorch, safetensors or flax (msgpack); or a folder with one.
      output: model directory to write; all commands that take a RUN take it.
      image_size: height and width in pixels of the pictures that the model was trained on.
      tokenizer: of a prior, the model directory of its tokenizer.
    """
    from vq_jax.convert import formats
    from vq_jax.convert.base import Asked

    found = formats.convert(format, file, output, Asked(image_size, tokenizer))
    if found.left_out:
        parts = sorted({name.rpartition(".")[0].partition(".")[0] for name in found.left_out})
        print(f"{len(found.left_out)} tensors of {', '.join(parts)} are left out")
    print(f"{found.summary}, {output}/")
    return 0


def export(run: Run, to: _To, output: _Target) -> int:
    """Write a model as a file of another project, or as programs that need jax alone.

    Args:
      run: run or model directory of a tokenizer.
      to: whose file to write, one of the formats of `vq-jax convert`; or jax, for a folder with programs that
        encode and decode where vq_jax is not installed.
      output: the file; a folder of diffusers, or of programs.
    """
    from vq_jax.convert import formats

    for path in formats.export(run, to, output):
        print(path)
    if to in formats.FORMATS and formats.FORMATS[to].lacks:
        print(f"The file lacks {formats.FORMATS[to].lacks}")
    return 0
