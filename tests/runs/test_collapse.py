"""A codebook that is hardly used is said once in the log, and in the report, with what to try."""

import pytest

from vq_jax.configs import (
    ExperimentConfig,
    FSQConfig,
    GroupedQuantizerConfig,
    LFQConfig,
    MultiScaleQuantizerConfig,
    ResidualFSQConfig,
    ResidualQuantizerConfig,
    ResidualVQVAE,
)
from vq_jax.runs.collapse import Collapse, warnings


def rows(usages, every=500, **more):
    return [{"step": every * (1 + number), **more, **usage} for number, usage in enumerate(usages)]


def config(quantizer):
    return ExperimentConfig("t", ResidualVQVAE(quantizer=quantizer))


def test_a_tenth_is_asked_of_windows_that_are_whole():
    found = Collapse()
    low = [
        found.see(row) for row in rows([{"window/usage": value} for value in (0.0, 0.05, 0.05, 0.2, 0.09)])
    ]
    assert low == [{}, {}, {"window/usage": 0.05}, {}, {"window/usage": 0.09}]
    # A window counts from where the codes are first in use: not from the steps of an autoencoder phase.
    found = Collapse()
    late = [*rows([{}] * 4), {"step": 2500, "window/usage": 0.01}, {"step": 3500, "window/usage": 0.02}]
    assert [found.see(row) for row in late][-2:] == [{}, {"window/usage": 0.02}]


def test_groups_stages_and_scales_are_named():
    residual, scales = ResidualQuantizerConfig(), MultiScaleQuantizerConfig()
    found = [one.codes_of("1") for one in (FSQConfig(), residual, ResidualFSQConfig(), scales)]
    assert found == ["codes 1", "codes of stage 1", "codes of stage 1", "codes of scale 1"]
    assert GroupedQuantizerConfig(residual).codes_of("1") == "codes 1" and residual.codes_of("") == "codes"


@pytest.mark.parametrize(
    "quantizer, advice",
    [
        (ResidualVQVAE().quantizer, "To try: model.quantizer.revive_threshold above 0"),
        (LFQConfig(), "To try: a larger model.quantizer.batch_entropy_weight; fewer codes"),
        (FSQConfig(), "To try: fewer codes"),
        (GroupedQuantizerConfig(), "To try: model.quantizer.inner.revive_threshold above 0"),
    ],
)
def test_the_words_name_the_codebook_its_use_and_what_to_try(quantizer, advice):
    (text,) = warnings(config(quantizer), rows([{"window/usage/1": 0.0123, "window/usage/0": 0.5}] * 3))
    which = {"grouped": "codes of group 1"}.get(quantizer.name, "codes 1")
    assert text.startswith(f"Only 1.2% of the {which} were used in the last 1000 steps. ") and advice in text
    assert warnings(config(quantizer), rows([{"window/usage": 0.01}] * 2)) == []
