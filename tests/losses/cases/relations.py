"""Losses of the relations between the examples of a batch, each beside its formula in NumPy."""

RELATIONS = {}
