"""Metrics of retrieval and of spaces, over plain arrays."""
