"""Finding items in the published catalog."""
