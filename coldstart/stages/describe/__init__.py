"""What is written of items: pictures as grounds, the writing itself, and the checks before anybody reads it."""

PARTS = ("grounds", "write", "check")
"""In the order in which they run."""
