"""Evaluate every capability of a workspace on its own held-out items, each against its baseline.

Calls the evaluation of each capability as its own command does, and brings what it reports to rows of one form.
"""
