"""Discriminators: pictures [B, *S, C] to logits."""

from vq_jax.nn.discriminators.patch import MLPDiscriminator, PatchDiscriminator, StyleGANDiscriminator

__all__ = ["MLPDiscriminator", "PatchDiscriminator", "StyleGANDiscriminator"]
