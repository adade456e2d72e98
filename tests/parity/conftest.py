"""What the other projects need before they can be imported."""

import contextlib
import sys
import warnings

import pytest

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


@pytest.fixture(autouse=True)
def same_weights() -> None:
    """Their modules draw their own weights: the same in every run, whichever tests run before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
