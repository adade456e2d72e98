"""What a restorer is made of and learns from, besides its tokenizer."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from vq_jax.configs.fields import Checked
from vq_jax.configs.losses import Losses
from vq_jax.errors import require
from vq_jax.ranges import WEIGHT, between

if TYPE_CHECKING:
    from vq_jax import nn
    from vq_jax.types import CodeSpecs

_MOST_CODES = 2**16  # of a codebook: each has a row in a head
_Width = Annotated[int, between(1, 2**14)]
_Blocks = Annotated[int, between(0, 128)]


@dataclasses.dataclass(frozen=True)
class RestorerNetwork(Checked):
    """The network of a restorer, see `nn.RestorerModel`. Encoder and decoder are the tokenizer's."""

    path: ClassVar[str] = "restorer"

    channels: _Width = 128
    """Width of the blocks that read the picture."""
    residual_channels: _Width = 64
    """Width inside these blocks."""
    num_res_blocks: _Blocks = 6
    """Number of these blocks."""
    fusion: bool = True
    """Learn to mix what the input shows into the restored picture, for a fidelity above 0."""
    fusion_channels: _Width = 64
    """Width of the blocks that mix."""
    fusion_blocks: _Blocks = 2
    """Number of blocks that mix, before the decoder and after it."""
    fusion_patch: Annotated[int, between(1, 64)] = 4
    """Pixels, along each axis, of the patches that the blocks after the decoder work on: smaller ones see
    finer detail and cost more."""
    fusion_start: Annotated[float, between(0, 1)] = 0.0
    """Where these start to learn: at 0 from the decoded picture, for an input whose faults must not come
    back, such as noise and blocks; at 0.5 halfway to the input, for one that lacks something and has the rest
    right, such as a small or blurred picture."""

    def build(
        self, tokenizer: "nn.VQModel", twin: "nn.VQModel", specs: "CodeSpecs", scale: int, dtype: Any
    ) -> "nn.RestorerModel":
        """Makes the network.

        Args:
          tokenizer: the frozen tokenizer.
          twin: a model like it, whose encoder the restorer trains.
          specs: of the tokenizer's codes.
          scale: how many times larger the output is than the input.
          dtype: compute dtype.

        Raises:
          ValueError: the tokenizer's codes are not those of one grid, or of too many kinds.
        """
        from vq_jax import nn

        spec = _one_grid(specs, tokenizer)
        require(
            spec.codebook_size <= _MOST_CODES,
            f"a restorer has a row for each code, and the tokenizer has {spec.codebook_size}: use one of at "
            f"most {_MOST_CODES} codes",
        )
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return nn.RestorerModel(
            tokenizer=tokenizer,
            encoder=twin.encoder,
            codebook_size=spec.codebook_size,
            codes_per_position=spec.codes_per_position,
            scale=scale,
            dtype=dtype,
            **fields,
        )

    def build_regressor(
        self, twin: "nn.VQModel", specs: "CodeSpecs", scale: int, dtype: Any
    ) -> "nn.RegressorModel":
        """Makes the same network without codes; arguments as for `build`."""
        from vq_jax import nn

        _one_grid(specs, twin)
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields.pop("fusion")
        return nn.RegressorModel(
            encoder=twin.encoder, decoder=twin.decoder, head=twin.head, scale=scale, dtype=dtype, **fields
        )


def _one_grid(specs: "CodeSpecs", tokenizer: "nn.VQModel") -> Any:
    """The one grid of the codes; raises ValueError where the pictures have other codes."""
    from vq_jax.types import CodeSpec

    require(
        isinstance(specs, CodeSpec),
        f"a restorer predicts one grid of codes, and the tokenizer has several: {specs}",
    )
    strides = tokenizer.strides(len(getattr(specs, "shape", ())))
    require(
        tokenizer.image_shape is None and len(strides) > 0 and len(set(strides)) == 1,
        "a restorer works on pictures of any size, and this tokenizer does not: use one of convolutions with "
        "the same stride along each axis",
    )
    return specs


@dataclasses.dataclass(frozen=True)
class RestorationLosses(Losses):
    """Losses of a restorer: on the codes, and on the picture restored at fidelity 1."""

    reconstruction: Literal["l2", "l1", "log_laplace", "bernoulli"] = "l1"
    """Kind of reconstruction loss: l1 or l2."""
    adaptive: bool = False
    """Must be False: a restorer has no layer at which gradients are compared."""
    code_weight: Annotated[float, WEIGHT] = 0.1
    """Weight of the cross-entropy of the clean picture's codes; a regressor has none."""
    feature_weight: Annotated[float, WEIGHT] = 1.0
    """Weight of the squared error between latents and the vectors of the clean picture's codes; a regressor
    has none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.reconstruction in ("l1", "l2"),
            f"losses.reconstruction must be l1 or l2 for a restorer, got {self.reconstruction!r}",
        )
        require(not self.adaptive, "losses.adaptive must be False for a restorer: lower adversarial_weight")
        require(
            self.variance_weight == 0,
            "losses.variance_weight has no effect on a restorer, whose latents follow the codebook: omit it",
        )
