"""Engines: they run stages over rows, and own batches, workers, commits and the ledger."""
