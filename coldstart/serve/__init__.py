"""Serve a workspace to other programs: over HTTP to services and browsers, over the Model Context Protocol to agents.

`catalogue` answers questions about the published catalogue with the models of `results`; every interface is a shell
over it. `readers` follows the publications, `batching` joins the searches of concurrent requests, `jobs` takes in new
items.
"""
