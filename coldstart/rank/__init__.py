"""Rank candidates by what a user will do with them: features, models, calibration, fit and evaluation."""
