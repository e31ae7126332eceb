"""`coldstart mcp`: serve the published catalogue to agents by the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldstart.cli.output import DEFAULT_WORKSPACE, Uri
from coldstart.core.sanitize import without_controls


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("mcp")(mcp)


def mcp(
    workspace: Uri = DEFAULT_WORKSPACE,
    http: Annotated[
        str | None,
        typer.Option("--http", metavar="HOST:PORT", help="Serve streamable HTTP at /mcp there, instead of stdio."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="With --http: lines of `SCOPES TOKEN [NAME]`, as of `coldstart serve`; a token needs read.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="With --http: a name that clients call it by; repeatable."),
    ] = None,
    users: Annotated[
        bool, typer.Option("--users", help="Answer about users too: lists for a user, audiences of an item.")
    ] = False,
    allow_writes: Annotated[
        bool,
        typer.Option(
            "--allow-writes", help="Add tools that add and remove items, add interactions, and decide in reviews."
        ),
    ] = False,
    log_calls: Annotated[
        bool, typer.Option("--log-calls", help="Log name, duration and size of each call on stderr, never its texts.")
    ] = False,
) -> None:
    """Serve the published catalogue to agents by MCP.

    The tools only read, unless --allow-writes is given. Over stdio an agent's host starts this command; over HTTP
    it listens on this machine only, unless a token is given. docs/how-to/agents.md shows the settings of some hosts.

    \b
    Examples:
      coldstart mcp --workspace shop.workspace
      coldstart mcp --workspace shop.workspace --users --log-calls
      coldstart mcp --http 127.0.0.1:8765 --token-file token.txt
    """
    from coldstart.errors import ColdstartError
    from coldstart.serve.catalogue import Catalogue
    from coldstart.serve.mcp import build_server, http_app, run_http, run_stdio
    from coldstart.serve.readers import Readers
    from coldstart.serve.settings import ServeSettings, is_loopback, read_tokens
    from coldstart.serve.tools import Tools

    if http is None and (token_file is not None or allow_host):
        raise ColdstartError("--token-file and --allow-host go with --http: stdio has no network", kind="usage")
    host, port = ("", 0) if http is None else _address(http)
    tokens = () if token_file is None else read_tokens(token_file)
    if http is not None and not is_loopback(host) and not (tokens and allow_host):
        raise ColdstartError(
            f"--http {http}: other machines can reach it: give --token-file FILE and --allow-host NAME, or listen on "
            "127.0.0.1",
            kind="usage",
        )
    if log_calls:
        _log_calls()
    readers = Readers(workspace)
    queue = None
    if allow_writes:
        from coldstart.serve.run import open_queue  # it needs the extra `serve`, too

        queue = open_queue(workspace)
    settings = ServeSettings(workspace, host or "127.0.0.1", port, tokens, tuple(allow_host or ()))
    server = build_server(Tools(Catalogue(readers), users=users), queue, settings)
    app = None if http is None else http_app(server, settings, writes=allow_writes)
    readers.start()
    if queue is not None:
        queue.start()
    try:
        readers.current()  # nothing published is said now, not at the first call
        if app is None:
            run_stdio(server)
        else:
            shown = f"[{host}]" if ":" in host else host
            typer.echo(without_controls(f"http://{shown}:{port}/mcp"), err=True)
            run_http(app, host, port)
    finally:
        if queue is not None:
            queue.close()
        readers.stop()


def _address(text: str) -> tuple[str, int]:
    from coldstart.errors import ColdstartError

    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise ColdstartError(f"--http {text[:80]}: write HOST:PORT, such as 127.0.0.1:8765", kind="usage")
    return host.strip("[]"), int(port)


def _log_calls() -> None:
    import json
    import logging

    class Form(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return json.dumps({"at": self.formatTime(record), **getattr(record, "fields", {})})

    handler = logging.StreamHandler()
    handler.setFormatter(Form())
    logger = logging.getLogger("coldstart.serve.mcp")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
