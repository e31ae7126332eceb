"""Fit heads or towers that bring pictures and words into one space, and evaluate them."""
