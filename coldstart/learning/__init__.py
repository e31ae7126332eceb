"""What a workspace offers to learn from: texts of items, vectors of pictures and words, what belongs together."""
