"""Frozen networks whose features pictures are compared by."""
