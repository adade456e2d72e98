"""The f16 VQGAN of taming-transformers in PyTorch, for the benchmarks beside this file.

Networks, quantizer, losses and discriminator are the authors' modules (package
taming-transformers-rom1504). The step is written here as theirs runs it: two passes of the generator,
one for its own update and one for the discriminator's; the adaptive weight from two gradients at the
decoder's last kernel; Adam for both. In PyTorch's favour, parameters that a half of the step does not
train take no gradients, so that its second pass of the generator keeps nothing for a backward pass.
LPIPS is the package lpips with random weights: time does not depend on them.
"""

import contextlib
import os
import warnings
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their imports
    import torch

    _library = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):  # operators that torch for CPU alone does not have
        with contextlib.suppress(RuntimeError):
            _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import lpips
    from taming.modules.diffusionmodules.model import Decoder, Encoder
    from taming.modules.discriminator.model import NLayerDiscriminator, weights_init
    from taming.modules.losses.vqperceptual import hinge_d_loss
    from taming.modules.vqvae.quantize import VectorQuantizer2

WIDTHS: dict[str, Any] = {
    "ch": 128,
    "out_ch": 3,
    "ch_mult": (1, 1, 2, 2, 4),
    "num_res_blocks": 2,
    "attn_resolutions": [16],
    "in_channels": 3,
    "z_channels": 256,
    "double_z": False,
    "dropout": 0.0,
}


class Generator(torch.nn.Module):
    """Encoder, quantizer and decoder, as taming's VQModel composes them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        # Attention sits on the fifth level, whatever the picture's size.
        widths = WIDTHS | {"attn_resolutions": [size // 16], "resolution": size}
        with contextlib.redirect_stdout(open(os.devnull, "w")):
            self.encoder, self.decoder = Encoder(**widths), Decoder(**widths)
        self.quant_conv = torch.nn.Conv2d(256, 256, 1)
        self.post_quant_conv = torch.nn.Conv2d(256, 256, 1)
        self.quantize = VectorQuantizer2(1024, 256, beta=0.25)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Indices."""
        return self.quantize(self.quant_conv(self.encoder(pictures)).float())[2][2]

    def decode(self, indices: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Pictures of indices whose latents have a shape [B, h, w, D]."""
        return self.decoder(self.post_quant_conv(self.quantize.get_codebook_entry(indices, shape)))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        quantized, loss, _ = self.quantize(self.quant_conv(self.encoder(pictures)).float())
        return self.decoder(self.post_quant_conv(quantized)), loss


class TrainStep:
    """Taming's training step on one device.

    Attributes:
      generator: encoder, quantizer, decoder.
    """

    def __init__(self, size: int, *, perceptual: bool, device: str, fast: bool) -> None:
        self.device, self.fast = device, fast
        self.generator = Generator(size)
        self.discriminator = NLayerDiscriminator(3, 64, 3).apply(weights_init)
        self.lpips = None
        modules = [self.generator, self.discriminator]
        if perceptual:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.lpips = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
            self.lpips.requires_grad_(False)
            modules.append(self.lpips)
        for module in modules:
            module.to(device, memory_format=torch.channels_last)
        self.kernel = self.generator.decoder.conv_out.weight
        rate: dict[str, Any] = {"lr": 4.5e-6, "betas": (0.5, 0.9)}
        self.optimizer = torch.optim.Adam(self.generator.parameters(), **rate)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), **rate)
        if fast:  # bfloat16 and compilation, on a GPU
            self.generator = torch.compile(self.generator)
            self.discriminator = torch.compile(self.discriminator)

    def __call__(self, pictures: torch.Tensor) -> None:
        """Both updates, on float pictures [B, 3, H, W] in [-1, 1], channels last in memory."""
        precision = torch.autocast(self.device, torch.bfloat16, enabled=self.fast)
        self.generator.requires_grad_(True)
        self.discriminator.requires_grad_(False)
        with precision:
            reconstruction, quantizer_loss = self.generator(pictures)
            nll = (pictures - reconstruction).abs().float()
            if self.lpips is not None:
                nll = nll + self.lpips(pictures, reconstruction).float()
            nll = nll.mean()
            adversarial = -self.discriminator(reconstruction).float().mean()
        (slope,) = torch.autograd.grad(nll, self.kernel, retain_graph=True)
        (pull,) = torch.autograd.grad(adversarial, self.kernel, retain_graph=True)
        weight = 0.8 * torch.clamp(slope.norm() / (pull.norm() + 1e-4), 0.0, 1e4).detach()
        self.optimizer.zero_grad()
        (nll + weight * adversarial + quantizer_loss).backward()
        self.optimizer.step()
        self.discriminator.requires_grad_(True)
        with precision:
            with torch.no_grad():
                reconstruction, _ = self.generator(pictures)
            real = self.discriminator(pictures).float()
            fake = self.discriminator(reconstruction.detach()).float()
            loss = hinge_d_loss(real, fake)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()


def to_torch(pictures: np.ndarray, device: str) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in [-1, 1], channels last in memory."""
    tensor = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    return tensor.contiguous(memory_format=torch.channels_last)
