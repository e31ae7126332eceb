"""Find what a video or picture says, shows and repeats: shots, speech, screen text, copies, quality, safety.

One detector a file, without training: arrays and texts in, plain records out. `stages/` runs them on items.
"""
