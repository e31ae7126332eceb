"""Pictures and videos: what may be read, and how they become arrays."""
