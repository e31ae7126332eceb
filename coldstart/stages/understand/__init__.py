"""understand: what a video or picture says, shows and repeats."""
