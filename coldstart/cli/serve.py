"""`coldstart serve`: answer over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldstart.cli.output import DEFAULT_WORKSPACE, Index, Uri


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("serve")(serve)


def serve(
    workspace: Uri = DEFAULT_WORKSPACE,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, metavar="N", help="Port to listen on.")] = 8123,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Lines of `SCOPES TOKEN [NAME]`, scopes of read, write and review; needed beyond this machine.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", envvar="COLDSTART_SERVE_TOKEN", metavar="TOKEN", help="One token that may do everything."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name that clients call the server by; repeatable."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", metavar="ORIGIN", help="A site whose pages may call the server; repeatable."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Take in no items and no interactions.")] = False,
    warm: Annotated[
        bool, typer.Option("--warm", help="Load the models for new items at the start, and keep them: some 1.4 GB.")
    ] = False,
    index: Index = "disk",
    deadline: Annotated[
        float, typer.Option("--deadline", min=0.1, metavar="SECONDS", help="Time for one answer.")
    ] = 30.0,
    max_upload_mb: Annotated[
        int, typer.Option("--max-upload-mb", min=1, metavar="MB", help="Largest request with media.")
    ] = 256,
    in_flight: Annotated[
        int, typer.Option("--in-flight", min=1, metavar="N", help="Requests answered at one time; more get 503.")
    ] = 64,
) -> None:
    """Serve a workspace over HTTP.

    Search, match, recommend, take in new items, and tell the state of all stages. It follows what `run` publishes,
    without a restart. The description of the interface is at /openapi.json.

    \b
    Examples:
      coldstart serve --workspace shop.workspace
      coldstart serve --port 8200 --read-only --index memory
      coldstart serve --host 10.0.0.5 --allow-host shop.lan --token-file keys
    """
    from coldstart.serve.run import serve as run_server
    from coldstart.serve.settings import ServeSettings, parse_token, read_tokens

    tokens = (() if token_file is None else read_tokens(token_file)) + (() if token is None else (parse_token(token),))
    settings = ServeSettings(
        workspace=workspace,
        host=host,
        port=port,
        tokens=tokens,
        allowed_hosts=tuple(allow_host or ()),
        allowed_origins=tuple(allow_origin or ()),
        deadline_s=deadline,
        max_upload_bytes=max_upload_mb << 20,
        in_flight=in_flight,
        index=index,
    )
    run_server(settings, read_only=read_only, warm=warm)
