"""What can be told from media without training: shots, speech, text on the screen, fingerprints, quality, safety.

One sense a file. Nothing here knows items, stages or tables: arrays and texts in, plain records out.
"""
