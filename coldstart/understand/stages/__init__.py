"""Stages that run the detectors on items, one a file."""
