"""Benchmarks: one file a claim. `python -m benchmarks` runs them all in short form, `--full` at full size."""
