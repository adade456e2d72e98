"""Weights of other projects as model directories, and back. A format is one file, listed in `formats`."""
