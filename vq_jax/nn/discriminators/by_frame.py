"""What discriminators see of a clip: some of its frames, as a shorter clip or as pictures."""

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.types import Array, Float, Int

FRAMES = "frames"


class ClipDiscriminator(nn.Module):
    """Shows a discriminator some frames of each clip; pictures as they are.

    The frames are the same for all clips of a batch, and drawn from the rng stream `frames`: real and
    reconstructed clips show the same ones where both are judged with one key. Without that stream, as in
    `init`, the first frames are shown.

    Attributes:
      network: the discriminator.
      frames: how many frames of a clip are shown; 0 for all. They lie in a row, so that movement can be
        judged, unless each is judged alone.
      by_frame: show each frame as a picture of its own.
    """

    network: nn.Module
    frames: int = 0
    by_frame: bool = False

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the discriminator; None where it sees no labels."""
        classes: int | None = getattr(self.network, "num_classes", None)
        return classes

    @nn.compact
    def __call__(
        self, pictures: Float[Array, "B *S C"], labels: Int[Array, " B"] | None = None, *, train: bool = False
    ) -> Float[Array, "N *s 1"]:
        """Judges clips [B, T, H, W, C], or pictures; by frame, N is the number of frames shown, else B."""
        network = self.network
        if pictures.ndim != 5:
            return network(pictures, labels, train=train)
        if 0 < self.frames < pictures.shape[1]:
            if self.has_rng(FRAMES):
                chosen = ops.draw_frames(
                    self.make_rng(FRAMES), pictures.shape[1], self.frames, in_a_row=not self.by_frame
                )
                pictures = ops.take_frames(pictures, chosen)
            else:
                pictures = pictures[:, : self.frames]
        if self.by_frame:
            if labels is not None:
                labels = jnp.broadcast_to(labels[:, None], pictures.shape[:2]).reshape(-1)
            pictures = ops.clips_to_frames(pictures)
        return network(pictures, labels, train=train)
