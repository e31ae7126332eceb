"""Review of a catalogue by people: the queue of what was turned away, and decisions on it."""
