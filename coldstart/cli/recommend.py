"""`coldstart recommend`: list items for users; `coldstart audience`: list users for an item."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, MAX_TOP_K, Explain, Json, Kind, Uri, Where

if TYPE_CHECKING:
    from coldstart.recommend.audience import Audience
    from coldstart.recommend.service import Recommended

_STDIN = Path("-")


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    app.command("recommend")(recommend)
    app.command("audience")(audience)


def recommend(
    workspace: Uri = DEFAULT_WORKSPACE,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="A user of the workspace.")] = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", metavar="FILE|-", help="JSON of liked items: item_id, timestamp, event, weight."),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(
            "--users", metavar="FILE|all", help="CSV, JSONL, Parquet or text file of user ids, or all; needs --out."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="With --users: write their lists as .csv, .tsv, .jsonl, .json or .parquet.",
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="Also write the lists as shown now, with their propensities, for `ingest --impressions`; a new file.",
        ),
    ] = None,
    log_user: Annotated[
        str | None,
        typer.Option("--log-user", metavar="ID", help="With --history: name whom --log is of, such as a session."),
    ] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", metavar="N", min=1, max=MAX_TOP_K, help="Number of items in a list.")
    ] = 20,
    kind: Kind = None,
    where: Where = None,
    fresh_days: Annotated[
        float | None, typer.Option("--fresh-days", metavar="N", help="Only items created in the last N days.")
    ] = None,
    per_creator: Annotated[
        int | None, typer.Option("--per-creator", min=1, metavar="N", help="At most N items of one creator.")
    ] = None,
    seen: Annotated[
        str, typer.Option("--seen", metavar="keep|drop", help="Keep or drop items that the user has interacted with.")
    ] = "drop",
    cold_share: Annotated[
        float,
        typer.Option(
            "--cold-share",
            metavar="0..1",
            help="Least share of cold items in a list; with 0 their scores alone decide.",
        ),
    ] = 0.0,
    cold_boost: Annotated[
        float, typer.Option("--cold-boost", metavar="X", help="Add X standard deviations to the scores of cold items.")
    ] = 0.0,
    explore: Annotated[
        float, typer.Option("--explore", metavar="0..1", help="Share of slots that go to cold items at random.")
    ] = 0.0,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Random seed of --explore: the same seed, the same lists.")
    ] = 0,
    diversity: Annotated[
        float,
        typer.Option(
            "--diversity", metavar="0..1", help="Weight of diversity: 0 ranks by score alone, 1 by difference alone."
        ),
    ] = 0.0,
    diversify: Annotated[
        str,
        typer.Option(
            "--diversify",
            metavar="mmr|dpp",
            help="Method of --diversity: mmr, maximal marginal relevance, or dpp, a determinantal point process.",
        ),
    ] = "mmr",
    interests: Annotated[
        int,
        typer.Option("--interests", min=1, metavar="N", help="Query by up to N interests, clusters of the history."),
    ] = 1,
    merge: Annotated[
        str,
        typer.Option(
            "--merge", metavar="max|rrf", help="Merge the lists of interests by score (max) or by rank (rrf)."
        ),
    ] = "max",
    half_life_days: Annotated[
        float | None, typer.Option("--half-life-days", metavar="N", help="Items liked N days earlier count half.")
    ] = None,
    recall: Annotated[
        str | None,
        typer.Option(
            "--recall",
            metavar="NAME",
            help="Score by the sequence model: dense, codes, both, or auto, what was best on held-out items.",
        ),
    ] = None,
    rank: Annotated[
        str,
        typer.Option(
            "--rank",
            metavar="auto|on|off",
            help="Order by the ranker of `finetune rank`: on, off, or auto, where it won.",
        ),
    ] = "auto",
    rerank: Annotated[
        str | None,
        typer.Option(
            "--rerank",
            metavar="KIND",
            help="Order the first 30 anew: auto (as certified by `evaluate rerank`), none, mmr, dpp, listwise or llm.",
        ),
    ] = None,
    rerank_generator: Annotated[
        str,
        typer.Option(
            "--rerank-generator",
            metavar="NAME",
            autocompletion=complete.generators,
            help="Language model of --rerank llm, and of auto.",
        ),
    ] = "starter",
    deadline_ms: Annotated[
        float, typer.Option("--deadline-ms", metavar="N", help="With --rerank: keep the list as it is after N ms.")
    ] = 300.0,
    reasons: Annotated[bool, typer.Option("--reasons/--no-reasons", help="Explain each item by a liked one.")] = True,
    explain: Explain = False,
    json: Json = False,
) -> None:
    """List items for a user, a history or a file of users.

    \b
    Examples:
      coldstart recommend --user u17 --cold-share 0.2 --per-creator 2
      coldstart recommend --history liked.json --kind video --diversity 0.3
      coldstart recommend --user u17 --rank on --explain
      coldstart recommend --user u17 --recall auto --rerank auto
      coldstart recommend --users u.csv --out l.csv --explore 0.1 --log s.csv
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.errors import ColdstartError

    if sum(value is not None for value in (user, history, users)) != 1:
        raise ColdstartError("give exactly one of --user, --history and --users")
    if (users is None) != (out is None):
        raise ColdstartError("--users and --out go together: the lists of many users are written to a file")
    if users is not None and log_user is not None:
        raise ColdstartError("--log-user is for one --history: the log of --users names each user itself")
    options: dict[str, Any] = {
        "top_k": top_k,
        "kind": kind,
        "where": where,
        "fresh_days": fresh_days,
        "per_creator": per_creator,
        "seen": seen,
        "cold_share": cold_share,
        "cold_boost": cold_boost,
        "explore": explore,
        "seed": seed,
        "diversity": diversity,
        "diversify": diversify,
        "interests": interests,
        "merge": merge,
        "half_life_days": half_life_days,
    }
    models: dict[str, Any] = {
        "recall": recall,
        "rank": rank,
        "rerank": rerank,
        "rerank_generator": rerank_generator,
        "deadline_ms": deadline_ms,
    }
    liked = None if history is None else _read(history)
    opened = coldstart.open(workspace)
    if users is not None and out is not None:
        every: Path | str = "all" if users == Path("all") else users
        written = opened.recommend_many(every, out, log=log, progress=ConsoleProgress(), **models, **options)
        if json:
            output.as_json(written.to_dict())
            return
        output.line(
            f"{written.rows:,} rows for {written.users:,} users in {output.duration(written.seconds)} "
            f"({written.users / max(written.seconds, 1e-9):,.0f} users/s), {written.cold_share:.0%} cold, scored by "
            f"{written.scored_by}: {written.out}"
        )
        if written.without_history:
            output.note(f"note: {written.without_history:,} users have no liked items")
        if written.ranked is not None:
            output.note(_ranked(written.ranked, explain))
        if written.rerank is not None:
            faults = ", ".join(f"{fault} {count:,}" for fault, count in written.rerank["faults"].items())
            why = written.rerank["why"] or (f"lists left as they were: {faults}" if faults else None)
            output.note(f"reranked by {written.rerank['kind']}{f': {why}' if why else ''}")
        return
    found = opened.recommend(user, history=liked, reasons=reasons, log=log, log_user=log_user, **models, **options)
    if json:
        output.as_json(found.to_dict())
    else:
        _print(found, explain)


def audience(
    item: Annotated[
        str, typer.Argument(metavar="ITEM", autocompletion=complete.items, help="Id of an item, new or not.")
    ],
    workspace: Uri = DEFAULT_WORKSPACE,
    top_k: Annotated[int, typer.Option("--top-k", "-k", metavar="N", min=1, help="Number of users to list.")] = 100,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="score|lift",
            help="Rank users by score, or by lift: standard deviations above the user's mean score.",
        ),
    ] = "score",
    reasons: Annotated[bool, typer.Option("--reasons/--no-reasons", help="Explain each user by a liked item.")] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the users as .csv, .tsv, .jsonl, .json or .parquet."),
    ] = None,
    json: Json = False,
) -> None:
    """List the users most likely to like an item.

    The item may be new; users who interacted with it are left out.

    \b
    Examples:
      coldstart audience clip-7 --top-k 500 --out clip-7.csv
      coldstart audience sku-9 --workspace shop.workspace --by lift
      coldstart audience sku-9 --no-reasons --json
    """
    import coldstart

    opened = coldstart.open(workspace)
    from coldstart.recommend.audience import write_audience  # once the workspace is there
    from coldstart.recommend.table_files import check_out_path

    if out is not None:
        check_out_path(out)
    found = opened.audience(item, top_k=top_k, by=by, reasons=reasons)
    if out is not None:
        write_audience(found, out)
    if json:
        output.as_json(found.to_dict())
    elif out is not None:
        output.line(f"{len(found.people):,} users for {item}: {out}")
    else:
        _print_audience(found)


def _read(history: Path) -> str:
    from coldstart.errors import ColdstartError

    try:
        return sys.stdin.read() if history == _STDIN else history.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ColdstartError(
            f'cannot read {history}: {reason}; give a file such as ["sku-1", "sku-9"], or - for standard input'
        ) from None


def _print(found: Recommended, explain: bool) -> None:
    source = "a history" if found.user_id is None else f"user {found.user_id}"
    output.note(f"for {source} of {found.history} liked items, scored by {found.scored_by}")
    if found.ranked is not None:
        output.note(_ranked(found.ranked, explain))
    for note in found.notes:
        output.note(f"note: {note}")
    items = found.items
    if not items:
        return  # a note says why
    random = explain and any(one.propensity < 1 for one in items)
    values: dict[str, list[Any]] = {
        "": [one.rank for one in items],
        "title": [one.title or one.item_id for one in items],
        "kind": [one.kind if explain else None for one in items],
        "category": [one.category for one in items],
        "price": [one.price for one in items],
        "item": [one.item_id for one in items],
        "score": [f"{one.score:.4f}" for one in items],
        "state": ["cold" if one.cold else "warm" for one in items],
        "p": [_probabilities(one.details) for one in items],
        "from": [_sources(one.details, None if explain else 3) for one in items],
        "slot": ["explored" if one.explored else None for one in items],
        "propensity": [f"{one.propensity:.3f}" if random else None for one in items],
        "reason": [one.reason.text if one.reason else None for one in items],
    }
    spare = () if explain else ("category", "price", "state", "from")
    output.table_of(values, main="title", whole=("item", "from") if explain else ("item",), spare=spare, below="reason")


def _ranked(ranked: Mapping[str, Any], explain: bool) -> str:
    """Say whether a ranker ordered lists: its gain in one clause, or all that was measured."""
    why = ranked["why"] if explain else ranked.get("summary") or ranked["why"]
    return f"{'ranked' if ranked['on'] else 'not ranked'}: {why}"


def _probabilities(details: Mapping[str, Any]) -> str | None:
    """Write the probability, or score, of each event."""
    return ", ".join(f"{event} {p:.3f}" for event, p in details.get("p", {}).items()) or None


def _sources(details: Mapping[str, Any], most: int | None) -> str | None:
    """Name the channels that listed an item, at most `most`, with its rank in each."""
    own = [f"{one['channel']} {one['rank']}" for one in details.get("sources", ())]
    return ", ".join(own[:most]) or None


def _print_audience(found: Audience) -> None:
    state = "cold" if found.cold else "warm"
    output.note(
        f"for {state} item {found.item_id} of {found.users:,} users, scored by {found.scored_by}; {found.met:,} who "
        "interacted with it are left out"
    )
    for note in found.notes:
        output.note(f"note: {note}")
    values: dict[str, list[Any]] = {
        "": [one.rank for one in found.people],
        "user": [one.user_id for one in found.people],
        found.by: [f"{one.score:.4f}" for one in found.people],
        "reason": [one.reason.text if one.reason else None for one in found.people],
    }
    output.table_of(values, main="user", whole=("user",), below="reason")
