"""Kinds of run: what the loop trains, one module a kind."""
