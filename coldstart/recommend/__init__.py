"""Recommend items, new ones too, to users: fit, lists, audiences."""
