"""Encoders and decoders, one module a family."""
