"""coldstart: understand new videos and products before their first click.

    import coldstart
    workspace = coldstart.open("shop.workspace", create=True)
    workspace.run("starter", manifest="items.jsonl")
    workspace.search(text="something sour for fish", kind="product")

Names load on first use, so that importing the package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coldstart.core.version import __version__

_HOMES = {
    "open": "coldstart.api",
    "connect": "coldstart.api.remote",
    "Workspace": "coldstart.api",
    "Hits": "coldstart.search.notebook",
    "ItemView": "coldstart.search.notebook",
    "Hit": "coldstart.search.search",
    "Query": "coldstart.search.queries",
    "Pipeline": "coldstart.core.pipeline",
    "PipelineError": "coldstart.core.pipeline",
    "ColdstartError": "coldstart.errors",
    "Reject": "coldstart.core.stage",
    "Passport": "coldstart.encoders",
    "Encoder": "coldstart.encoders",
}

__all__ = [
    "ColdstartError",
    "Encoder",
    "Hit",
    "Hits",
    "ItemView",
    "Passport",
    "Pipeline",
    "PipelineError",
    "Query",
    "Reject",
    "Workspace",
    "__version__",
    "connect",
    "open",
]

if TYPE_CHECKING:
    from coldstart.api import Workspace, open
    from coldstart.api.remote import connect
    from coldstart.core.pipeline import Pipeline, PipelineError
    from coldstart.core.stage import Reject
    from coldstart.encoders import Encoder, Passport
    from coldstart.errors import ColdstartError
    from coldstart.search.notebook import Hits, ItemView
    from coldstart.search.queries import Query
    from coldstart.search.search import Hit


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'coldstart' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
