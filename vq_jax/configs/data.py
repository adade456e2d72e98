"""Where the pictures come from, and how the codes of a prior's training are made from them."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from vq_jax.configs.degradations import (
    DegradationConfig,
    GaussianNoiseConfig,
    NoDegradationConfig,
    check_named,
)
from vq_jax.configs.derived import with_optional_fields_of
from vq_jax.configs.fields import LOCAL, PATH, RESUME, SIDES, SOURCE, Checked, check_value
from vq_jax.errors import require
from vq_jax.ranges import COUNT, Range, between

_Batch = Annotated[int, between(1, 2**24), tyro.conf.arg(aliases=["--batch-size"])]
_Workers = Annotated[int, between(0, 512)]
_Repeats = Annotated[int, between(1, 2**20)]

ImageSize = int | tuple[int, int]
"""Size of pictures in pixels: one number where height and width are equal, else both."""
_Size = Annotated[ImageSize, between(4, 2**16), SIDES]


@dataclasses.dataclass(frozen=True)
class ColourConfig(Checked):
    """Random changes of the colours of training pictures, in three channels; all are off by default."""

    path: ClassVar[str] = "data.colour"

    permute: bool = False
    """Put red, green and blue in a random order."""
    hue: Annotated[float, Range(0, 0.5)] = 0.0
    """Turn the hue by up to this share of the colour circle, either way; 0: off."""
    saturation: Annotated[float, between(0, 1)] = 0.0
    """Make colours stronger or weaker by up to this share; 0: off, 1: from grey to twice as strong."""
    brightness: Annotated[float, between(0, 1)] = 0.0
    """Make pictures brighter or darker by up to this share; 0: off."""

    @property
    def changes(self) -> bool:
        """Whether any change is made."""
        return self != ColourConfig()


@dataclasses.dataclass(frozen=True)
class DataConfig(Checked):
    """Where the pictures come from and how a batch is made of them."""

    path: ClassVar[str] = "data"

    source: Annotated[str, SOURCE, tyro.conf.arg(aliases=["--data"])] = dataclasses.field(
        default="photos", metadata=LOCAL
    )
    """photos, fashion, folder:PATH, arrays:FILE.npz, tfds:NAME[:SPLIT], or of videos frames:PATH, video:PATH,
    moving-fashion[:CLIPS]. A run resumes wherever the same pictures are."""
    data_dir: Annotated[str | None, PATH] = dataclasses.field(default=None, metadata=LOCAL)
    """Directory of the prepared tensorflow-datasets sets (their own default when absent)."""
    batch_size: _Batch = 32
    """Pictures a step, over all devices and processes."""
    image_size: _Size = 64
    """Height and width of a training picture, in pixels: one number for both, or two."""
    frames: Annotated[int | None, between(1, 2**16)] = None
    """Frames of a training clip, of data that are videos; None: pictures, of videos their single frames."""
    frame_stride: Annotated[int, between(1, 2**16)] = 1
    """Distance of a clip's frames in the video: 2 takes every other one."""
    resize: Literal["none", "short-side", "random"] = "none"
    """Before the crop: leave the picture, bring it to the smallest size that image_size fits into (of a
    square: its short side to image_size), or to a random size between that and twice that."""
    crop: Literal["random", "center"] = "random"
    """Where in the picture the part of image_size is cut out."""
    flip: bool = True
    """Mirror every other training picture, left to right."""
    colour: ColourConfig = ColourConfig()
    degradation: DegradationConfig = NoDegradationConfig()
    """What makes pictures worse, for a model that restores them."""
    crops_per_picture: _Repeats = 1
    """Training crops of one picture in an epoch: more for a few large photographs."""
    test_fraction: Annotated[float, Range(0, 1, above=True, below=True)] = 0.1
    """Share of the pictures held out, for sources that come without a test set (folder, arrays)."""
    test_limit: Annotated[int, COUNT] = dataclasses.field(default=1024, metadata=RESUME)
    """Most test pictures (or crops of them) that an evaluation takes."""
    scaled_decoding: bool = True
    """Decode a JPEG file at a half, a quarter or an eighth of its size where a training picture takes 3, 6 or
    12 times image_size of it; for a folder:PATH too large to stay in memory."""
    value_range: Annotated[tuple[float, float] | None, between(-(2**40), 2**40)] = None
    """Of picture files with more than 8 bits: the values that become black and white. When absent, the range
    that the file says, unless all values lie in 0..255."""
    max_megapixels: Annotated[int, between(1, 10**6)] = dataclasses.field(default=300, metadata=RESUME)
    """Larger pictures of folder:PATH count as broken: decoding one takes 3 bytes a pixel and more."""
    class_names: tyro.conf.Fixed[tuple[str, ...] | None] = dataclasses.field(default=None, metadata=RESUME)
    """Names of the classes in the order of their numbers, as a run found them in its data."""
    num_workers: _Workers = dataclasses.field(default=0, metadata=LOCAL)
    """Processes that read pictures; 0 reads in threads. It never changes the order of the pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_span(self.value_range)
        check_named(self.degradation)
        scale = self.degradation.scale
        require(
            not any(side % scale for side in self.picture_size),
            f"data.image_size must be a multiple of {scale}, by which data.degradation makes pictures "
            f"smaller, got {written(self.image_size)}",
        )
        require(
            self.frames is None or not self.degradation.changes,
            f"data.degradation {self.degradation.name} is for pictures, and data.frames = {self.frames} asks "
            "for clips: omit one of them",
        )

    def check_channels(self, channels: int) -> None:
        """Checks that the pictures can be changed as asked.

        Raises:
          ValueError: changes of colours, and pictures that are not in colour.
        """
        self.degradation.check_channels(channels)
        require(
            channels == 3 or not self.colour.changes,
            f"data.colour changes red, green and blue, and these pictures have {channels} channel"
            f"{'s' * (channels != 1)}: omit it",
        )

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of a training picture."""
        return height_and_width(self.image_size)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths *S of what the model is trained on: pictures (H, W), or clips (T, H, W)."""
        return self.picture_size if self.frames is None else (self.frames, *self.picture_size)

    def plain(self) -> "DataConfig":
        """Returns the settings for pictures that have the right size: an epoch takes each once, as it is."""
        return dataclasses.replace(
            self,
            resize="none",
            crop="center",
            flip=False,
            crops_per_picture=1,
            colour=ColourConfig(),
            degradation=NoDegradationConfig(),
        )


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Returns height and width of pictures of a size."""
    return (size, size) if isinstance(size, int) else size


def image_size_of(value: Any) -> ImageSize:
    """Returns the size of pictures that a JSON holds.

    Raises:
      ValueError: it is none.
    """
    size: ImageSize = check_value(_Size, value, "image_size")
    return size


def written(size: ImageSize) -> str:
    """Returns the size of pictures as messages write it: 64, or 64 x 96."""
    return str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}"


def _check_span(span: tuple[float, ...] | None) -> None:
    require(
        span is None or (len(span) == 2 and span[0] < span[1]),
        f"data.value_range must be two numbers, the first below the second, got {span}",
    )


class _OverTokenizer(Checked):
    """Base of the pictures of a run over a tokenizer."""

    path: ClassVar[str] = "data"

    if TYPE_CHECKING:  # fields of DataConfig that are not written in the classes
        value_range: tuple[float, float] | None = None

        def __init__(self, **fields: Any) -> None: ...

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_span(self.value_range)

    def resolve(self, tokenizer: DataConfig) -> DataConfig:
        """Returns the tokenizer's settings with those that are given here in their place.

        Raises:
          ValueError: they do not go together.
        """
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(DataConfig)}
        return dataclasses.replace(
            tokenizer, **{name: value for name, value in given.items() if value is not None}
        )


@with_optional_fields_of(DataConfig)
class PriorDataConfig(_OverTokenizer):
    """The pictures whose codes are learnt; a field that is None is as in the tokenizer's run."""

    batch_size: _Batch = 64
    """Grids of codes a step, over all devices and processes."""
    num_workers: _Workers = dataclasses.field(default=0, metadata=LOCAL)
    """Processes that read pictures where codes are made on the fly; 0 reads in threads."""
    colour: ColourConfig = ColourConfig()
    degradation: NoDegradationConfig = NoDegradationConfig()
    """None: a prior learns the codes of pictures as they are."""


@with_optional_fields_of(DataConfig)
class RestorerDataConfig(_OverTokenizer):
    """The pictures that a restorer learns from; a field that is None is as in the tokenizer's run."""

    batch_size: _Batch = 8
    """Pictures a step, over all devices and processes."""
    num_workers: _Workers = dataclasses.field(default=0, metadata=LOCAL)
    """Processes that read pictures; 0 reads in threads. It never changes the order of the pictures."""
    colour: ColourConfig = ColourConfig()
    degradation: DegradationConfig = GaussianNoiseConfig()
    """What the restorer is to undo."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named(self.degradation)
        require(
            self.degradation.changes,
            "data.degradation must not be none for a restorer, which learns to undo it: give "
            "--degradation NAME",
        )


@dataclasses.dataclass(frozen=True)
class CodesConfig(Checked):
    """How the codes of the training pictures are made."""

    path: ClassVar[str] = "codes"

    mode: Literal["cache", "fly"] = dataclasses.field(default="cache", metadata=RESUME)
    """cache: once, into files; fly: in every step. The codes and their order are the same."""
    variants: _Repeats = 1
    """Number of crops of a picture (times data.crops_per_picture) whose codes are made; where pictures are
    mirrored, every other crop is the mirror image of the one before."""
    directory: Annotated[str | None, PATH] = dataclasses.field(default=None, metadata=LOCAL)
    """Where the files are kept; in the run directory when absent."""
