"""Estimate time, memory and disk of a run from a few items, before it starts."""
