"""Shared ground of all rooms: pipeline files, the protocol of stages, records, prompts, sanitizing, devices."""
