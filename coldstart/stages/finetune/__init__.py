"""Fits of models that write, on this catalogue's own items."""

PARTS = ("describe",)
