"""Training: one method a file. Arrays and folders in, folders out; knows nothing of stages, tables or commands."""
