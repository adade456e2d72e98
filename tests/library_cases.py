"""Calls of the public functions and modules on small inputs, by name: a function and its arguments each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax import evaluate, generate, nn, ops, train
from vq_jax.configs import Losses, OptimizerConfig
from vq_jax.configs.quantizers import QUANTIZERS

_RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def floats(*shape):
    return _RNG.normal(size=shape).astype(np.float32)


def integers(high, *shape):
    return _RNG.integers(0, high, shape).astype(np.int32)


Z, BOOK, CODES, COUNTS = floats(12, 4), floats(8, 4), integers(8, 12), floats(8) ** 2
PICTURES, BYTES = floats(4, 16, 16, 3), integers(256, 4, 16, 16, 3).astype(np.uint8)
LOGITS, GRID, MASK = floats(2, 4, 8), integers(8, 2, 4), _RNG.random((2, 4)) < 0.5
SCALAR = np.float32(0.5)
TOKENS, ANGLES = floats(2, 4, 2, 4), floats(4, 2)
CLIPS = np.stack([PICTURES, PICTURES, PICTURES], axis=1)
AVERAGES = ops.CodeAverages(COUNTS, BOOK, SCALAR)

OPS = {
    "adaptive_weight": (ops.adaptive_weight, Z, Z),
    "apply_temperature": (ops.apply_temperature, LOGITS, 0.7),
    "attention": (functools.partial(ops.attention, causal=True), TOKENS, TOKENS, TOKENS),
    "cached_attention": (ops.cached_attention, Z, floats(12, 3, 4), floats(12, 3, 4), np.int32(1)),
    "clip_conv": (
        lambda *x: ops.clip_conv(*x, (2, 1, 1), (1, 1)),
        CLIPS,
        np.ones((3, 3, 3, 3, 4), np.float32),
    ),
    "clips_to_frames": (ops.clips_to_frames, CLIPS),
    "code_accuracy": (ops.code_accuracy, LOGITS, GRID, MASK),
    "area_matrix": (lambda x: ops.resize(x, (3, 2), ops.area_matrix), PICTURES),
    "bilinear_matrix": (lambda x: ops.resize(x, (9, 11), ops.bilinear_matrix), PICTURES),
    "corner_bilinear_matrix": (lambda x: ops.resize(x, (9, 11), ops.corner_bilinear_matrix), PICTURES),
    "cosine_patches": (lambda: jnp.asarray(ops.cosine_patches((2, 2), 3, 4)),),
    "bicubic_matrix": (lambda x: ops.resize(x, (9, 11), ops.bicubic_matrix), PICTURES),
    "repeat_first": (lambda x: ops.repeat_first(x, 2), CLIPS),
    "resize": (lambda x: ops.resize(x, (2, 9), ops.area_matrix), PICTURES),
    "code_counts": (lambda codes: ops.code_counts(codes, 8), CODES),
    "code_cross_entropies": (lambda *x: ops.code_cross_entropies(*x, 0.1), LOGITS, GRID),
    "code_cross_entropy": (ops.code_cross_entropy, LOGITS, GRID, MASK),
    "code_statistics": (lambda z, codes: ops.code_statistics(z, codes, 8), Z, CODES),
    "code_use": (lambda codes: ops.code_use(codes, 8), CODES),
    "codebook_from_averages": (lambda averages: ops.codebook_from_averages(averages, 1e-5), AVERAGES),
    "conv": (lambda *x: ops.conv(*x, (1, 1), ((1, 1), (1, 1))), PICTURES, floats(3, 3, 3, 4)),
    "dead_codes": (lambda size: ops.dead_codes(size, 0.5), COUNTS),
    "diff_augment": (ops.diff_augment, KEY, PICTURES),
    "directional_noise": (lambda *x: ops.directional_noise(*x, 0.1), KEY, Z),
    "discriminator_loss": (lambda *x: ops.discriminator_loss(*x, "hinge"), Z, Z),
    "diveq": (ops.diveq, Z, Z[::-1], 0.1 * Z),
    "double_conv_transpose": (ops.double_conv_transpose, PICTURES, floats(4, 4, 3, 2)),
    "draw_frames": (lambda rng: ops.draw_frames(rng, 17, 4, in_a_row=False), KEY),
    "entropy_loss": (lambda *x: ops.entropy_loss(*x, 0.1), Z, BOOK),
    "filter_logits": (lambda x: ops.filter_logits(x, temperature=0.5, top_k=3, top_p=0.9), LOGITS),
    "filter_top_k": (lambda x: ops.filter_top_k(x, 3), LOGITS),
    "filter_top_p": (lambda x: ops.filter_top_p(x, 0.9), LOGITS),
    "generator_adversarial_loss": (lambda x: ops.generator_adversarial_loss(x, "vanilla"), Z),
    "given_codes": (lambda rng: ops.given_codes(rng, 2, (3, 2, 2), ops.TASKS), KEY),
    "greedy_codes": (ops.greedy_codes, LOGITS),
    "grid_coordinates": (lambda: jnp.asarray(ops.grid_coordinates((2, 3))),),
    "frames_to_clips": (lambda x: ops.frames_to_clips(x, 2), np.concatenate([PICTURES, PICTURES])),
    "from_patches": (lambda x: ops.from_patches(x, 2), floats(2, 3, 4, 8)),
    "group_norm": (lambda *x: ops.group_norm(*x, groups=2, epsilon=1e-6), Z, BOOK[0], BOOK[0]),
    "guidance_scale": (lambda r: ops.guidance_scale("power_cosine", 2.0, r, 1.5), SCALAR),
    "guide": (lambda *x: ops.guide(*x, 2.0), LOGITS, LOGITS),
    "halton_order": (lambda: jnp.asarray(ops.halton_order((2, 3))),),
    "head_channels": (lambda: jnp.int32(ops.head_channels("log_laplace", 3)),),
    "head_to_picture": (lambda x: ops.head_to_picture(x, "log_laplace"), floats(2, 4, 6)),
    "init_lecam": (ops.init_lecam,),
    "kmeans": (lambda *x: ops.kmeans(*x, 8), KEY, Z),
    "lecam_loss": (ops.lecam_loss, Z, Z, SCALAR, SCALAR),
    "largest_product": (ops.largest_product, Z, BOOK),
    "look_up": (ops.look_up, BOOK, CODES),
    "mask_fraction": (lambda r: ops.mask_fraction("arccos", r), COUNTS / 100),
    "masked_count": (lambda: jnp.int32(ops.masked_count("cosine", 16, 1, 4)),),
    "match_blocks": (lambda *x: ops.match_blocks(*x, 4, 2), PICTURES, PICTURES[::-1]),
    "move_blocks": (lambda *x: ops.move_blocks(*x, 4), PICTURES, integers(3, 4, 4, 4, 2)),
    "nearest_code": (ops.nearest_code, Z, BOOK),
    "normalize_pictures": (ops.normalize_pictures, BYTES),
    "normalize_vectors": (ops.normalize_vectors, Z),
    "pad_edges": (lambda x: ops.pad_edges(x, ((1, 0), (0, 2))), PICTURES),
    "perplexity": (ops.perplexity, COUNTS),
    "product_entropy": (lambda *x: ops.product_entropy(*x, 0.1), Z, BOOK),
    "propagate_indices": (ops.propagate_indices, Z, BOOK),
    "r1_penalty": (lambda x: ops.r1_penalty(lambda x: jnp.sum(jnp.square(x), axis=-1), x), PICTURES),
    "ramp": (lambda step: ops.ramp(step, 3, 4), np.int32(5)),
    "random_mask": (lambda rng: ops.random_mask(rng, (2, 4, 4), "cosine"), KEY),
    "reconstruction_loss": (lambda *x: ops.reconstruction_loss(*x, "bernoulli"), PICTURES, PICTURES),
    "rms_norm": (ops.rms_norm, Z, floats(4)),
    "rotary_angles": (lambda: jnp.asarray(ops.rotary_angles(ops.grid_coordinates((2, 3)), 8)),),
    "rotate": (ops.rotate, TOKENS, ANGLES),
    "rotation_trick": (ops.rotation_trick, Z, Z[::-1]),
    "sample_codes": (ops.sample_codes, KEY, LOGITS),
    "sample_vectors": (lambda *x: ops.sample_vectors(*x, 8), KEY, Z),
    "squared_distances": (ops.squared_distances, Z, BOOK),
    "straight_through": (ops.straight_through, Z, Z),
    "take_frames": (ops.take_frames, CLIPS, np.array([0, 2], np.int32)),
    "to_patches": (lambda x: ops.to_patches(x, 2), PICTURES),
    "to_uint8": (ops.to_uint8, PICTURES),
    "update_averages": (lambda *x: ops.update_averages(*x, 0.9), AVERAGES, COUNTS, BOOK),
    "update_lecam": (lambda *x: ops.update_lecam(*x, 0.9), ops.LecamAverages(SCALAR, SCALAR), Z, Z),
    "upsample_conv": (ops.upsample_conv, PICTURES, floats(3, 3, 3, 2)),
    "usage": (ops.usage, COUNTS),
    "variance_loss": (ops.variance_loss, Z),
}

_CNN = {"channels": 8, "channel_multipliers": (1, 1), "num_res_blocks": 1}
_VIT = {"patch_size": 2, "width": 8, "num_layers": 1, "num_heads": 2, "mlp_features": 8}
_VIDEO = {"patch_size": 4, "frame_stride": 2, "channels": 8, "residual_channels": 4, "num_res_blocks": 1}
_MOTION = {
    "patch_size": 4,
    "channels": 8,
    "residual_channels": 4,
    "num_res_blocks": 1,
    "latent_channels": 4,
}
_MAGVIT2_VIDEO = {"channels": 8, "channel_multipliers": (1, 1), "time_levels": (0,), "num_res_blocks": 1}
_RESIDUAL = {"channels": 8, "residual_channels": 4, "num_res_blocks": 1, "num_downsamples": 2}
_PRIOR = {"codebook_size": 8, "grid": (2, 2), "width": 16, "num_layers": 1, "num_classes": 3, "dropout": 0.0}
_TRANSFORMER = {**_PRIOR, "num_heads": 2, "mlp_features": 16}


def vq_model(quantizer=None, head="picture"):
    quantizer = quantizer or nn.VectorQuantizerEMA(8, 4, revive_threshold=0.5)
    width, channels = _RESIDUAL, ops.head_channels(head, 3)
    encoder = nn.ResidualEncoder(latent_channels=4, **width)
    return nn.VQModel(encoder, quantizer, nn.ResidualDecoder(out_channels=channels, **width), head=head)


def _init_and_apply(module, *inputs, mutable=(), wrap=lambda *inputs: inputs, **keywords):
    """Draws parameters, then applies the module in training, as one function of key and inputs."""

    def run(rng, *inputs):
        inputs = wrap(*inputs)
        rngs = {name: rng for name in ("params", "quantizer", "dropout", "mask")}
        variables = module.init(rngs, *inputs, **keywords)
        options = {"train": True, "mutable": list(mutable), "rngs": rngs, **keywords}
        return variables, module.apply(variables, *inputs, **options)

    return run, KEY, *inputs


def _quantizer(**fields):
    return {"revive_threshold": 0.5, "entropy_weight": 0.1, "normalize": True, "decay": 0.9, **fields}


LABELS = integers(3, 4)


def _labelled(inputs, labels):
    return inputs, nn.Condition(labels)


PRIOR_CODES = integers(8, 4, 2, 2)
PRIORS = {
    "GPT": nn.GPT(**_TRANSFORMER),
    "GPT of two codes a position": nn.GPT(**_TRANSFORMER, codes_per_position=2),
    "MaskGIT": nn.MaskGIT(**_TRANSFORMER, unmasked_weight=0.1, label_smoothing=0.1),
    "PixelCNN": nn.PixelCNN(**_PRIOR, kernel=3, head_features=16),
}


def _closed_loop():
    return nn.ClosedLoopVQModel(
        nn.MotionEncoder(**_MOTION, radius=2),
        nn.MotionQuantizer(nn.VectorQuantizerEMA(8, 4), 2),
        nn.MotionDecoder(**_MOTION),
    )


NEXT_FRAME = nn.NextFrameCNN(
    *(25, (3, 4, 4), 6, *nn.MotionDecoder(**_MOTION).view_widths),
    **dict(context=2, width=8, num_layers=1, codes_per_position=2, num_classes=3),
)


def _views_given(inputs, views, labels):
    return inputs, nn.Condition(labels, features=views)


def _prior_codes(model):
    return integers(8, 4, *model.code_shape)


MODULES = {
    "VectorQuantizer": _init_and_apply(nn.VectorQuantizer(8, 4, **_quantizer()), Z, mutable=("codebook",)),
    "VectorQuantizerEMA": _init_and_apply(
        nn.VectorQuantizerEMA(8, 4, **_quantizer()), Z, mutable=("codebook",)
    ),
    "FSQ": _init_and_apply(nn.FSQ((5, 3, 3, 3)), Z),
    "FSQ, symmetric": _init_and_apply(nn.FSQ((4, 2, 3, 3), symmetric=True, bound="sigmoid"), Z),
    **{
        f"{name} of the registry": _init_and_apply(
            config().build(), floats(5, config().latent_channels), mutable=("codebook",)
        )
        for name, config in QUANTIZERS.items()
    },
    "VQModel": _init_and_apply(vq_model(), PICTURES, mutable=("codebook",)),
    "VQModel, log_laplace": _init_and_apply(vq_model(nn.FSQ((3,) * 4), head="log_laplace"), PICTURES),
    "CNNEncoder": _init_and_apply(nn.CNNEncoder(**_CNN, latent_channels=4), PICTURES),
    "CNNDecoder": _init_and_apply(nn.CNNDecoder(**_CNN), floats(2, 4, 4, 4)),
    "MAGVIT2Encoder": _init_and_apply(nn.MAGVIT2Encoder(**_CNN, latent_channels=4), PICTURES),
    "MAGVIT2Decoder": _init_and_apply(nn.MAGVIT2Decoder(**_CNN), floats(2, 4, 4, 4)),
    "MaskGITEncoder": _init_and_apply(nn.MaskGITEncoder(**_CNN, latent_channels=4), PICTURES),
    "MaskGITDecoder": _init_and_apply(nn.MaskGITDecoder(**_CNN), floats(2, 4, 4, 4)),
    "ViTEncoder": _init_and_apply(nn.ViTEncoder(**_VIT, latent_channels=4), PICTURES),
    "ViTDecoder": _init_and_apply(nn.ViTDecoder((8, 8, 3), **_VIT, head_features=8), floats(2, 4, 4, 4)),
    "PatchEncoder": _init_and_apply(
        nn.PatchEncoder(channels=8, residual_channels=4, num_res_blocks=1), PICTURES
    ),
    "VideoPatchEncoder": _init_and_apply(nn.VideoPatchEncoder(**_VIDEO), CLIPS),
    "VideoPatchDecoder": _init_and_apply(nn.VideoPatchDecoder(**_VIDEO), CLIPS[:, :2, :4, :4]),
    "MotionEncoder": (
        lambda *x: nn.MotionEncoder(**_MOTION, radius=2).init_with_output(*x),
        *(KEY, PICTURES, PICTURES[::-1]),
    ),
    "MotionDecoder": _init_and_apply(nn.MotionDecoder(**_MOTION), floats(4, 3, 4, 4, 6)),
    "MotionQuantizer": _init_and_apply(nn.MotionQuantizer(nn.FSQ((3, 3)), 2), floats(5, 4)),
    "ClosedLoopVQModel": _init_and_apply(
        _closed_loop(),
        CLIPS,
        mutable=("codebook",),
    ),
    "MAGVIT2VideoEncoder": _init_and_apply(nn.MAGVIT2VideoEncoder(**_MAGVIT2_VIDEO), CLIPS),
    "MAGVIT2VideoDecoder": _init_and_apply(nn.MAGVIT2VideoDecoder(**_MAGVIT2_VIDEO), CLIPS[:, :2, :4, :4]),
    "MLPEncoder": _init_and_apply(nn.MLPEncoder((8,)), PICTURES),
    "MLPDecoder": _init_and_apply(nn.MLPDecoder((4, 4, 1), (8,)), floats(2, 3, 4)),
    "LPIPS": (lambda *x: nn.LPIPS("alex").init(*x), KEY, floats(1, 32, 32, 3), floats(1, 32, 32, 3)),
    **{
        f"PatchDiscriminator, {norm}, {spectral}": _init_and_apply(
            nn.PatchDiscriminator(4, 1, norm, spectral, num_classes=3),
            PICTURES,
            LABELS,
            mutable=("batch_stats",),
        )
        for norm, spectral in (("batch", False), ("group", True), ("none", True))
    },
    "StyleGANDiscriminator": _init_and_apply(
        nn.StyleGANDiscriminator(max_channels=8, minibatch_group=2, num_classes=3), PICTURES, LABELS
    ),
    "ClipDiscriminator": _init_and_apply(
        nn.ClipDiscriminator(nn.MLPDiscriminator((8,), num_classes=3), 2, by_frame=True), CLIPS, LABELS
    ),
    "MLPDiscriminator": _init_and_apply(nn.MLPDiscriminator((8,), num_classes=3), PICTURES, LABELS),
    **{
        name: _init_and_apply(model, _prior_codes(model), LABELS, method="loss", wrap=_labelled)
        for name, model in PRIORS.items()
    },
    "NextFrameCNN": _init_and_apply(
        NEXT_FRAME,
        *(_prior_codes(NEXT_FRAME), floats(4, 3, 4, 4, NEXT_FRAME.view_features), LABELS),
        method="loss",
        wrap=_views_given,
    ),
    "NoiseGenerator": _init_and_apply(
        nn.NoiseGenerator(8, (2, 2), 4, 6, 8, 1, num_classes=3), floats(4, 6), LABELS, wrap=_labelled
    ),
}


LOSSES = {
    "hinge": Losses(adversarial_weight=0.1, r1_weight=1.0, lecam_weight=0.1, diff_augment=True),
    "vanilla": Losses(
        reconstruction="log_laplace",
        variance_weight=0.1,
        adversarial_weight=0.1,
        adversarial="vanilla",
        adversarial_start=2,
        adversarial_ramp=3,
    ),
}


def _chain(name="adam"):
    return train.make_optimizer(
        OptimizerConfig(name=name, warmup_steps=2, schedule="cosine", clip_norm=1.0), 9
    )


def gan_steps(losses, *, ema=True, optimizer=None, **options):
    """First states of both networks and one step of each, as one function of key and pictures."""
    optimizer = _chain() if optimizer is None else optimizer
    model = vq_model(nn.VectorQuantizer(8, 4, revive_threshold=0.5), losses.head)
    judge = nn.PatchDiscriminator(4, 1)
    networks = {"model": model, "optimizer": optimizer}
    judges = {"discriminator_model": judge, "discriminator_optimizer": optimizer}

    def run(rng, images):
        state = train.init_state(rng, images.shape[1:], ema=ema, **networks, **judges)
        batch = {"image": images}
        generator, reconstruction, metrics = train.generator_step(
            state.generator,
            state.discriminator,
            batch,
            rng,
            losses=losses,
            discriminator_model=judge,
            ema_decay=0.9,
            **networks,
            **options,
        )
        judged, more = train.discriminator_step(
            state.discriminator,
            batch,
            reconstruction,
            rng,
            discriminator_model=judge,
            optimizer=optimizer,
            losses=losses,
            accumulate=options.get("accumulate", 1),
        )
        return generator, judged, metrics, more

    return run, KEY, BYTES


def _prior_steps(model, **options):
    def run(rng, codes, labels):
        networks = {"prior_model": model, "optimizer": _chain()}
        state = train.init_prior(rng, ema=True, **networks)
        return train.prior_step(state, codes, nn.Condition(labels), rng, ema_decay=0.9, **networks, **options)

    return run, KEY, _prior_codes(model), LABELS


def _noise_steps():
    model, tokenizer = nn.NoiseGenerator(8, (4, 4), 4, 6, 8, 1, num_classes=3), vq_model()
    judge = nn.PatchDiscriminator(4, 1, num_classes=3)
    networks = {"model": model, "optimizer": _chain(), "discriminator_model": judge}
    networks["discriminator_optimizer"] = _chain()

    def run(rng, codes, labels):
        variables = tokenizer.init(rng, jnp.zeros((1, 16, 16, 3), jnp.float32))
        state = train.init_noise(rng, (16, 16, 3), **networks)
        return train.noise_step(
            state,
            codes,
            nn.Condition(labels),
            rng,
            tokenizer_model=tokenizer,
            tokenizer_variables=variables,
            losses=LOSSES["hinge"],
            **networks,
        )

    return run, KEY, integers(8, 4, 4, 4), LABELS


def _samples(model, options):
    def run(rng, labels):
        codes = jnp.zeros((1, *model.code_shape), jnp.int32)
        variables = model.init(rng, codes, nn.Condition(jnp.zeros((1,), jnp.int32)))
        return generate.sample_prior(model, variables, rng, nn.Condition(labels), options=options)

    return run, KEY, LABELS


def _samples_from_noise():
    model, tokenizer = nn.NoiseGenerator(8, (4, 4), 4, 6, 8, 1, num_classes=3), vq_model()

    def run(rng, labels):
        tokenizer_variables = tokenizer.init(rng, jnp.zeros((1, 16, 16, 3), jnp.float32))
        first = nn.Condition(jnp.zeros((1,), jnp.int32))
        variables = model.init(rng, jnp.zeros((1, 6), jnp.float32), first)
        return generate.sample_noise(
            model,
            variables,
            rng,
            nn.Condition(labels),
            tokenizer_model=tokenizer,
            tokenizer_variables=tokenizer_variables,
        )

    return run, KEY, LABELS


def _next_frames(method):
    tokenizer = _closed_loop()

    def run(rng, clips, labels):
        first = nn.Condition(jnp.zeros((1,), jnp.int32))
        codes = jnp.zeros((1, *NEXT_FRAME.code_shape), jnp.int32)
        variables = NEXT_FRAME.init(rng, codes, first)
        given = {
            "tokenizer_model": tokenizer,
            "tokenizer_variables": tokenizer.init(rng, jnp.zeros((1, *clips.shape[1:]), jnp.float32)),
        }
        if method == "own_frames":
            return train.own_frames(
                *(variables["params"], clips, rng), prior_model=NEXT_FRAME, labels=labels, share=0.5, **given
            )
        options = generate.MaskedOptions(steps=2, **DRAWS)
        return generate.sample_frames(
            NEXT_FRAME, variables, rng, nn.Condition(labels), options=options, **given
        )

    return run, KEY, floats(4, 3, 16, 16, 3), LABELS


def _evaluations():
    model = vq_model()
    specs = model.code_specs((16, 16, 3))
    setup = evaluate.Setup(specs, "l2")
    evaluators = evaluate.make_evaluators(("reconstruction", "codes"), setup)

    def run(rng, batch):
        variables = model.init(rng, jnp.zeros((1, 16, 16, 3), jnp.float32))
        params, codebook = variables["params"], variables["codebook"]
        return evaluate.evaluation_step(params, codebook, batch, model=model, evaluators=evaluators)

    return run, KEY, {"image": BYTES, "valid": np.array([True, True, True, False])}


DRAWS = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "guidance": 2.0}
STEPS = {
    "GAN, hinge": gan_steps(LOSSES["hinge"]),
    "GAN, vanilla": gan_steps(LOSSES["vanilla"], ema=False),
    "GAN, two parts of a batch": gan_steps(LOSSES["hinge"], accumulate=2),
    "codebook phase": gan_steps(LOSSES["hinge"], phase="codebook"),
    **{f"step of {name}": _prior_steps(model) for name, model in PRIORS.items()},
    "step of MaskGIT, two parts of a batch": _prior_steps(PRIORS["MaskGIT"], accumulate=2),
    "step of NoiseGenerator": _noise_steps(),
    **{
        f"samples of {name}": _samples(
            model,
            generate.MaskedOptions(steps=2, **DRAWS)
            if name == "MaskGIT"
            else generate.SamplingOptions(guidance_schedule="power_cosine", **DRAWS),
        )
        for name, model in PRIORS.items()
    },
    "samples of NoiseGenerator": _samples_from_noise(),
    "samples of NextFrameCNN": _next_frames("sample_frames"),
    "clips of own frames": _next_frames("own_frames"),
    "evaluation": _evaluations(),
}
