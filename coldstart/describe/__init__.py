"""Describe items: stages that write and check descriptions, the fit of the writer, and its evaluation."""
