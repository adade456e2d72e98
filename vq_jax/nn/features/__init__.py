"""Frozen networks whose features are used to compare pictures."""
