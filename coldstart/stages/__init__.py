"""Stages: one module each, named as the pipeline file names its kind. Stages do not import each other."""
