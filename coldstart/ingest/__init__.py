"""Read manifests and interaction files, and write their rows."""
