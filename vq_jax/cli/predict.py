"""The command that continues a video: `vq-jax predict`."""

import collections
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vq_jax.cli.files import Dir, Run
from vq_jax.cli.generate import NO_FLAGS, Flags, Name, check_seed, load_prior
from vq_jax.cli.options import given_options
from vq_jax.cli.targets import check_targets
from vq_jax.configs.fields import PATH
from vq_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from vq_jax.pretrained.prior import Prior

Video = Annotated[Path, PATH, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
OutputVideo = Annotated[Path, PATH, tyro.conf.arg(name="output", aliases=["-o"], metavar="FILE.mp4")]


def predict(
    run: Run,
    video: Video,
    output: OutputVideo,
    given: int | None = None,
    frames: int | None = None,
    compare: bool = False,
    label: Name = None,
    seed: int = 0,
    tokenizer: Dir = None,
    options: Flags = NO_FLAGS,
) -> int:
    """Continue a video with a trained prior of clips.

    Args:
      run: directory that `vq-jax train` wrote for a prior over the codes of a tokenizer of clips.
      video: video file. The middle of each frame is taken, at the size and the frame stride of the prior.
      output: video to write, the given frames and the new ones: .mp4, .gif, or .png, a strip.
      given: frames of the beginning to go on from; all when absent.
      frames: new frames; as many as the prior's clips have left when absent.
      compare: write the video's own frames above, black where there are none, and print the PSNR.
      label: class of the video by name or number; none when absent.
      seed: the same seed gives the same frames.
      tokenizer: run or model directory of the prior's tokenizer; the prior's own copy of it when absent.
      options: how codes are drawn.
    """
    import numpy as np

    from vq_jax.evaluate import psnr
    from vq_jax.pretrained.filling import context_frames, window_frames
    from vq_jax.pretrained.labels import by_name_or_number
    from vq_jax.runs.animations import check_video_path, write_video

    check_video_path(output)
    if not video.is_file():
        raise UserError(f"no such video: {video}")
    for name, value in (("given", given), ("frames", frames)):
        if value is not None and value < 1:
            raise UserError(f"expected --{name} of at least 1, got {value}")
    check_targets([output], [video], run=run)
    prior = load_prior(run, tokenizer)
    window_frames(prior)
    first, later, rate = _read(prior, video, given, frames if compare else 0)
    used = context_frames(prior, len(first))
    if used < len(first):
        print(f"the last {used} of {len(first)} given frames are used")
    classes = None if label is None else by_name_or_number([label], prior.class_names)
    arguments: dict[str, Any] = {"labels": classes, "seed": check_seed(seed), **given_options(options)}
    new = prior.predict(first[None], frames, progress=True, **arguments)[0]
    whole = np.concatenate([first, new])
    if compare:
        own = np.concatenate([first, later[: len(new)]])
        missing = np.zeros((len(whole) - len(own), *whole.shape[1:]), np.uint8)
        pairs = list(zip(later, new, strict=False))
        if pairs:
            figure = float(np.mean([psnr(one, other) for one, other in pairs]))
            print(f"{len(pairs)} of {len(new)} frames are in the video: PSNR {figure:.2f} dB")
        whole = np.concatenate([np.concatenate([own, missing]), whole], axis=1)
    write_video(output, whole, rate)
    print(f"{len(first)} given and {len(new)} new frames, {output}")
    return 0


def _read(
    prior: "Prior", path: Path, given: int | None, more: int | None
) -> "tuple[np.ndarray, np.ndarray, float]":
    """Reads a video as the prior takes it.

    Args:
      prior: it.
      path: of the video.
      given: first frames; all when absent, of which the last ones are kept.
      more: how many frames after the given ones; as many as a clip of the prior when absent.

    Returns:
      The given frames and those after them, uint8 [N, H, W, C], and how many there are a second.
    """
    import numpy as np
    from tqdm import tqdm

    from vq_jax.data.crops import cut, held_out_windows
    from vq_jax.data.video_file import require_av
    from vq_jax.data.videos import index_all

    require_av()
    [(_, found)], _ = index_all(path.parent, (path.name,), ((0, 0),))
    data = prior.config.data.resolve(prior.tokenizer.config.data)
    size, stride = data.picture_size, data.frame_stride
    quiet = not sys.stderr.isatty()
    frames = tqdm(found.frames(prior.tokenizer.channels), path.name, len(found), unit="frame", disable=quiet)
    taken = (frame for frame in itertools.islice(frames, 0, None, stride))

    def fitted(frame: "np.ndarray") -> "np.ndarray":
        height, width = frame.shape[:2]
        window = held_out_windows(height, width, size, "short-side", 1)[0]
        return cut(frame, window, size)

    kept: collections.deque[np.ndarray] = collections.deque(maxlen=prior.frames if given is None else None)
    kept.extend(map(fitted, itertools.islice(taken, given)))
    if given is not None and len(kept) < given:
        raise UserError(f"expected at least --given {given} frames in {path}, got {len(kept)}")
    most = prior.frames if more is None else more
    later = [fitted(frame) for frame in itertools.islice(taken, most)]
    shape = (0, *size, prior.tokenizer.channels)
    return np.stack(kept), np.stack(later) if later else np.zeros(shape, np.uint8), found.rate / stride
