"""Measures and their statistics: ranking, intervals, group splits, texts."""
