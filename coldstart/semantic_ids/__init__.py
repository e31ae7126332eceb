"""Semantic IDs: a few codes an item, whose first ones like items share; codebooks, collisions, health, page."""
