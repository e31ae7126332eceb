"""The Python interface: `coldstart.open` and `coldstart.Workspace`.

Notebooks and services call it, and every command of the command line is a shell over it. One file a family of
methods: `work` (run, fit, inspect), `search` (find items), `recommend` (lists and audiences), `evaluate` (measure).
"""

from coldstart.api.workspace import Workspace, open

__all__ = ["Workspace", "open"]
