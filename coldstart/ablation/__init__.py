"""Evaluate what each stage of a pipeline contributes: recall of new items and compute seconds, step after step.

`steps` evaluates plain data, `inputs`, `descriptions` and `ladder` read a workspace, `report` and `page` present.
"""
