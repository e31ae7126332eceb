"""Serve a workspace: its HTTP server, its queue of writes, and its tools for agents."""
