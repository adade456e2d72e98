"""The program `vq-jax`, one module a command or group of commands."""
