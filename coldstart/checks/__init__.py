"""What must hold of a description before it enters a vector or reaches a person. Pure: texts in, verdicts out."""
