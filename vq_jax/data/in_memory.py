"""A source whose pictures are in memory."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer, UInt8

from vq_jax.data.source import Record


class MemorySource:
    """Pictures that are already decoded, with or without labels.

    Args:
      images: uint8 [H, W, C] each; they may differ in height and width.
      labels: of any integer type [N], or None.
      num_classes: number of different labels; None without labels.
      class_names: of the labels, where they have names.
    """

    def __init__(
        self,
        images: Sequence[UInt8[np.ndarray, "_ _ C"]] | UInt8[np.ndarray, "N H W C"],
        labels: Integer[np.ndarray, " N"] | None = None,
        num_classes: int | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self._images = images
        self.labels = None if labels is None else labels.astype(np.int32)
        self.channels = int(images[0].shape[-1])
        self.num_classes = num_classes
        self.class_names = class_names
        digest = hashlib.blake2b(digest_size=16)
        parts = [images] if isinstance(images, np.ndarray) else images
        for part in (*parts, *([] if self.labels is None else [self.labels])):
            digest.update(f"{part.shape}{part.dtype}".encode())
            digest.update(np.ascontiguousarray(part).data)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        record: Record = {"image": self._images[index], "broken": np.int32(0)}
        if self.labels is not None:
            record["label"] = self.labels[index]
        return record
