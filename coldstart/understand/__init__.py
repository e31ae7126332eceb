"""Extract evidence from media: shots, speech, text on screen, near duplicates, quality, safety."""
