"""Linen modules: tokenizers and their parts, discriminators, perceptual features and priors."""

from vq_jax.nn.backbones.causal import CausalConv
from vq_jax.nn.backbones.cnn import CNNDecoder, CNNEncoder
from vq_jax.nn.backbones.magvit2_cnn import MAGVIT2Decoder, MAGVIT2Encoder
from vq_jax.nn.backbones.magvit2_video import MAGVIT2VideoDecoder, MAGVIT2VideoEncoder
from vq_jax.nn.backbones.maskgit_cnn import MaskGITDecoder, MaskGITEncoder
from vq_jax.nn.backbones.mlp import MLPDecoder, MLPEncoder
from vq_jax.nn.backbones.motion_patches import MotionDecoder, MotionEncoder
from vq_jax.nn.backbones.patches import PatchDecoder, PatchEncoder
from vq_jax.nn.backbones.residual import ResidualDecoder, ResidualEncoder
from vq_jax.nn.backbones.video_patches import VideoPatchDecoder, VideoPatchEncoder
from vq_jax.nn.backbones.vit import ViTDecoder, ViTEncoder
from vq_jax.nn.blocks import Conv, DoubleConvTranspose, GroupNorm, UpsampleConv
from vq_jax.nn.closed_loop import ClosedLoopVQModel
from vq_jax.nn.discriminators import (
    ClipDiscriminator,
    MLPDiscriminator,
    PatchDiscriminator,
    StyleGANDiscriminator,
)
from vq_jax.nn.features.lpips import LPIPS
from vq_jax.nn.features.lpips_weights import load_lpips
from vq_jax.nn.inflation import inflate
from vq_jax.nn.model import VQModel, VQOutput
from vq_jax.nn.priors import (
    GPT,
    Condition,
    MaskedCNN,
    MaskGIT,
    NextFrameCNN,
    NoiseGenerator,
    Past,
    PixelCNN,
    PostNormMaskGIT,
)
from vq_jax.nn.quantizers import (
    FSQ,
    IBQ,
    LFQ,
    CodebookQuantizer,
    GroupedQuantizer,
    GumbelQuantizer,
    MotionQuantizer,
    MultiScaleQuantizer,
    QuantizerOutput,
    RandomProjectionQuantizer,
    ResidualFSQ,
    ResidualQuantizer,
    Revival,
    SimVQ,
    VectorQuantizer,
    VectorQuantizerEMA,
)
from vq_jax.nn.restoration import RegressorModel, RestorerModel, RestorerOutput
from vq_jax.types import CodeSpec

__all__ = [
    "CNNDecoder",
    "CNNEncoder",
    "CausalConv",
    "ClipDiscriminator",
    "ClosedLoopVQModel",
    "CodeSpec",
    "CodebookQuantizer",
    "Condition",
    "Conv",
    "DoubleConvTranspose",
    "FSQ",
    "GPT",
    "GroupNorm",
    "GroupedQuantizer",
    "GumbelQuantizer",
    "LFQ",
    "IBQ",
    "LPIPS",
    "MLPDecoder",
    "MLPDiscriminator",
    "MLPEncoder",
    "MAGVIT2Decoder",
    "MAGVIT2Encoder",
    "MAGVIT2VideoDecoder",
    "MAGVIT2VideoEncoder",
    "MaskGIT",
    "MaskedCNN",
    "MaskGITDecoder",
    "MaskGITEncoder",
    "MotionDecoder",
    "MotionEncoder",
    "MotionQuantizer",
    "MultiScaleQuantizer",
    "NextFrameCNN",
    "NoiseGenerator",
    "PatchDecoder",
    "PatchDiscriminator",
    "PatchEncoder",
    "Past",
    "PixelCNN",
    "PostNormMaskGIT",
    "QuantizerOutput",
    "RandomProjectionQuantizer",
    "RegressorModel",
    "ResidualDecoder",
    "ResidualEncoder",
    "ResidualFSQ",
    "ResidualQuantizer",
    "RestorerModel",
    "RestorerOutput",
    "Revival",
    "SimVQ",
    "StyleGANDiscriminator",
    "UpsampleConv",
    "VQModel",
    "VQOutput",
    "VectorQuantizer",
    "VectorQuantizerEMA",
    "VideoPatchDecoder",
    "VideoPatchEncoder",
    "ViTDecoder",
    "ViTEncoder",
    "inflate",
    "load_lpips",
]
