"""The command `vq-jax restore`."""

import io
import logging
import sys
from typing import TYPE_CHECKING, Annotated

import tyro

from vq_jax.cli.files import Dir, OutputDir, Pictures, Run, write
from vq_jax.cli.given_pictures import GivenPicture, find_pictures
from vq_jax.cli.targets import check_targets
from vq_jax.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from vq_jax.data.transparency import Layers
    from vq_jax.pretrained.restorer import Restorer

_log = logging.getLogger("vq_jax")

Fidelity = Annotated[float | None, tyro.conf.arg(metavar="W")]
Compare = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def restore(
    run: Run,
    pictures: Pictures,
    output: OutputDir,
    fidelity: Fidelity = None,
    compare: Compare = False,
    tokenizer: Dir = None,
) -> int:
    """Restore pictures: enlarge, denoise, deblur, colourise, whatever the run learnt.

    Args:
      run: run or model directory of a restorer.
      pictures: picture files, or folders of them, of any size.
      output: where to write NAME.png.
      fidelity: 0 shows what the predicted codes stand for, 1 stays as close to the input as was learnt; 1
        when absent.
      compare: write each picture, enlarged pixel by pixel where it is smaller, beside the restored one.
      tokenizer: run or model directory of the restorer's tokenizer; the restorer's own copy of it when
        absent.
    """
    from tqdm import tqdm

    from vq_jax.pretrained.load import load_restorer

    given = find_pictures(pictures, output)
    targets = [output / f"{picture.name}.png" for picture in given]
    check_targets(targets, [picture.path for picture in given], run=run)
    restorer = load_restorer(run, tokenizer=tokenizer)
    restorer.check_fidelity(fidelity)
    for picture in given:
        if not picture.listed:
            _read(picture, restorer)
    left_out = 0
    with tqdm(total=len(given), unit="picture", disable=not sys.stderr.isatty()) as bar:
        for picture, target in zip(given, targets, strict=True):
            try:
                layers = _read(picture, restorer)
            except UserError as error:
                if not picture.listed:
                    raise
                left_out += 1
                _log.warning("left out: %s", error)
            else:
                write(target, _restored(restorer, layers, fidelity, compare))
                if not picture.listed:
                    bar.write(f"{picture.path}: {target}", file=sys.stdout)
            bar.update()
    if left_out == len(given):
        raise UserError(f"none of the {left_out} pictures can be read")
    if any(picture.listed for picture in given):
        count = len(given) - left_out
        words = f"{count} {'picture' if count == 1 else 'pictures'}"
        print(f"{words}{f' ({left_out} left out)' if left_out else ''}, {output}/")
    return 0


def _read(picture: GivenPicture, restorer: "Restorer") -> "Layers":
    from vq_jax.data.pictures import Reading
    from vq_jax.data.transparency import read_layers

    try:
        reading = Reading.of(restorer.tokenizer.config.data)
        return read_layers(picture.path, restorer.channels, reading)
    except Exception as error:  # of many kinds, Pillow's
        raise UserError(
            f"{picture.path} cannot be read as a picture: {error or type(error).__name__}"
        ) from error


def _restored(restorer: "Restorer", layers: "Layers", fidelity: float | None, compare: bool) -> bytes:
    """The file of a restored picture, a PNG.

    Opacity is no picture: it is enlarged by Lanczos interpolation and otherwise stays as it is. Grey stays
    grey, unless the model gives colours.
    """
    import numpy as np
    from PIL import Image

    from vq_jax.data.transparency import join_layers

    pixels, scale = restorer.restore(layers.pixels, fidelity=fidelity), restorer.scale
    alpha, before = layers.alpha, layers.pixels
    if scale > 1:
        before = before.repeat(scale, axis=0).repeat(scale, axis=1)
        if alpha is not None:
            size = (pixels.shape[1], pixels.shape[0])
            alpha = np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.LANCZOS))
    grey = layers.grey and not restorer.colourises
    after = join_layers(layers._replace(pixels=pixels, alpha=alpha, grey=grey))
    if compare:
        after = _beside(join_layers(layers._replace(pixels=before, alpha=alpha)), after)
    buffer = io.BytesIO()
    after.save(buffer, "PNG")
    return buffer.getvalue()


def _beside(left: "Image.Image", right: "Image.Image") -> "Image.Image":
    from PIL import Image

    mode = left.mode if left.mode == right.mode else "RGBA"
    pair = Image.new(mode, (left.width + right.width, left.height))
    pair.paste(left.convert(mode), (0, 0))
    pair.paste(right.convert(mode), (left.width, 0))
    return pair
