"""Evaluation of what a workspace serves, on items that no fit has seen."""
