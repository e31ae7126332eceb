"""Run stages on a Ray cluster. Ray is imported here alone."""
