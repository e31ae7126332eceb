"""understand: what a video or picture says, shows and repeats. Each part is a stage with rows and keys of its own.

Copies are found first, so that nothing dear is spent on them; then come the cheap looks, speech, the text on screen,
the timeline that joins them, and what may not be served.
"""

PARTS = ("fingerprint", "duplicates", "quality", "shots", "speech", "screen", "evidence", "safety")
"""In the order in which they run; all are on unless a pipeline says `part: false`."""
