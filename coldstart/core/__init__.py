"""Read pipeline files, and define what all rooms share: stages, records, prompts, sanitizing, devices, progress."""
