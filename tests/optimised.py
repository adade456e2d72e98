"""What the compiler does for programs that run long or must round the same, unlike in other tests."""

OPTIMISED = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": True}
"""`compiler_options` of `jax.jit`; conftest.py turns both off."""
