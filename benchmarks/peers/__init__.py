"""Other people's programs, each in an environment of its own (`make peers`), asked for one round at a time."""
