"""The library as other people's programs use it: their dtypes, meshes, optimizers and debugging switches."""

import jax
import numpy as np
import pytest
from library_cases import MODULES, OPS, STEPS

from vq_jax import ops

CASES = {**OPS, **MODULES, **STEPS}
QUICK = (*OPS, *MODULES, "GAN, hinge", "samples of MaskGIT", "evaluation")  # the others trace much the same
WIDE = (np.dtype("float64"), np.dtype("int64"))


def test_every_public_operation_has_a_case():
    functions = {name for name in ops.__all__ if callable(getattr(ops, name)) and name.islower()}
    assert functions == OPS.keys()


def wide_arrays(jaxpr):
    """Equations of a program, and of the programs in it, that make arrays of 64-bit floats."""
    for equation in jaxpr.eqns:
        made = [var.aval for var in equation.outvars if getattr(var.aval, "shape", ())]
        if any(aval.dtype == np.float64 for aval in made):
            yield str(equation)[:200]
        for value in jax.tree.leaves(tuple(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from wide_arrays(inner)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.ci) for name in CASES]
)
def test_with_64_bits_nothing_is_computed_or_returned_in_them(name):
    function, *args = CASES[name]
    with jax.enable_x64(True):
        program = jax.make_jaxpr(function)(*args)
    assert not [result for result in program.out_avals if result.dtype in WIDE]
    assert not list(wide_arrays(program.jaxpr))
