"""Stages that write of items and check what was written, and the fit of the model that writes."""
