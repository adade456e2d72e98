"""What the other projects need before they can be imported."""

import contextlib
import warnings

_KEPT = []  # the registration ends with the object

with contextlib.suppress(ImportError), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their imports
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        # torchvision looks for these operators, which torch for CPU alone does not have
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)
