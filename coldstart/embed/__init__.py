"""Embed items: the stage, the spaces of vectors it fills, and zero-shot labels."""
