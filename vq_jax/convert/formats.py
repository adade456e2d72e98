"""The formats, and conversion from and to them."""

import json
from collections.abc import Collection

import safetensors.numpy
from etils import epath

from vq_jax.convert.base import Asked, Converted, Format, Written
from vq_jax.convert.diffusers import Diffusers
from vq_jax.convert.llamagen import LlamaGen
from vq_jax.convert.llamagen_gpt import LlamaGenGPT
from vq_jax.convert.maskgit_files import MaskGITTokenizer
from vq_jax.convert.maskgit_transformer import MaskGITTransformer
from vq_jax.convert.portable import portable_files
from vq_jax.convert.seed_voken import IBQFormat, OpenMagvit2Format
from vq_jax.convert.taming import Taming
from vq_jax.convert.torch_writer import torch_file
from vq_jax.convert.weights_file import named, open_weights
from vq_jax.errors import UserError, lookup
from vq_jax.host.files import write_all
from vq_jax.pretrained.hub import local_copy
from vq_jax.pretrained.load import load
from vq_jax.pretrained.model_directory import open_model, write_model

FORMATS: dict[str, Format] = {
    kind.name: kind
    for kind in (
        *(Taming(), Diffusers(), LlamaGen(), LlamaGenGPT()),
        *(MaskGITTokenizer(), MaskGITTransformer(), OpenMagvit2Format(), IBQFormat()),
    )
}
PROGRAMS = "jax"


def convert(name: str, place: epath.PathLike, output: epath.PathLike, asked: Asked) -> Converted:
    """Converts a file of another project to a model directory.

    Args:
      name: its format, of `FORMATS`.
      place: the file, or a folder with it.
      output: the directory to write, local or gs://.
      asked: what the file does not say.

    Raises:
      UserError: there is no such format; or the file is damaged, or not of that format; or the directory
        holds something else.
    """
    kind = _format(name)
    file = open_weights(place, kind.within)
    if not kind.recognises(file.tensors):
        raise UserError(
            f"{file.path} is not a file of {name} ({kind.title}).\nIt {_what_it_is(file.tensors)}"
        )
    found = kind.convert(file, asked)
    write_model(output, found.files)
    return found


def export(place: epath.PathLike, name: str, output: epath.PathLike) -> list[epath.Path]:
    """Writes a model as a file of another project, or as programs.

    Args:
      place: run or model directory.
      name: the format, of `FORMATS`; or `jax`, for a directory of programs, see `portable_files`.
      output: the file; of a format with a `config.json`, also a folder, which has no ending.

    Returns:
      The files written.

    Raises:
      UserError: there is no such format, or no way to it; or its files cannot hold such a model.
    """
    if name == PROGRAMS:
        model = load(place)
        folder = epath.Path(output)
        return _write_all({folder / file: content for file, content in portable_files(model).items()})
    kind = _format(name)
    if kind.writes is None:
        back = ", ".join(other.name for other in FORMATS.values() if other.writes)
        raise UserError(f"files of {name} are not written; these are: {back}")
    directory = local_copy(place)
    saved = open_model(directory)
    written = kind.export(load(directory), None if saved is None else saved.origin())
    return _write(kind, written, epath.Path(output))


def _write(kind: Format, written: Written, output: epath.Path) -> list[epath.Path]:
    if kind.writes == "torch":
        content, name = torch_file(written.tensors, written.within), "model.pt"
    else:
        content = safetensors.numpy.save(dict(written.tensors), metadata={"format": "pt"})
        name = "diffusion_pytorch_model.safetensors"
    files = {output: content}
    if output.is_dir() or (written.config is not None and not output.suffix):
        files = {output / name: content}
        if written.config is not None:
            files[output / "config.json"] = (json.dumps(written.config, indent=2) + "\n").encode()
    return _write_all(files)


def _write_all(files: dict[epath.Path, bytes]) -> list[epath.Path]:
    try:
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_all(files)
    except OSError as error:
        raise UserError(f"cannot write {next(iter(files))}: {error.strerror or error}") from error
    return list(files)


def _format(name: str) -> Format:
    try:
        return lookup(FORMATS, name, "format")
    except ValueError as error:
        raise UserError(str(error)) from error


def _what_it_is(names: Collection[str]) -> str:
    """What tensors of these names are, as far as one can tell."""
    for kind in FORMATS.values():
        if kind.recognises(names):
            return f"looks like one of {kind.name}: give that format"
    for parts, what in _OTHERS:
        if any(part in name for part in parts for name in names):
            return f"looks like {what}"
    return f"has {len(names)} tensors: {named(names)}"


_OTHERS = (
    (("lora_", ".lora", "hada_"), "a LoRA, changes to another model: convert a whole tokenizer"),
    (("model.diffusion_model.", "down_blocks.0.attentions.0.transformer_blocks"), "a diffusion model"),
    (("quant_conv.weight",), "a VAE, whose latents are continuous: it has no codebook"),
    (("transformer.h.", "self_attn", "layers.0.attention"), "a transformer, not a tokenizer"),
)
