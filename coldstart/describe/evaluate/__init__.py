"""Evaluate descriptions on items that no fit has seen."""
