"""Run stages over rows; engines own batches, workers, commits and the ledger."""
