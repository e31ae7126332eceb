"""Write the model card of a fitted writer: its data, settings, losses, and texts before and after the fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = 5


def fit_summary(card: Mapping[str, Any]) -> str:
    """Return one line about a fit."""
    items = card["items"]
    tuned, seconds = card.get("tuned", card["generator"]), card["seconds"]
    learnt = f"{tuned} fitted on {items['train']} items ({card['lessons']} examples) in {seconds:.0f} s"
    loss = card["valid_loss"]
    held = f"; held-out loss {loss['before']:.3f} before, {loss['after']:.3f} after" if loss else ""
    judged = card["judged"]
    if "choices" in card:
        return f"{learnt}{held}; {_choices(card)}"
    if not judged["items"]:
        return f"{learnt}{held}; no items were held out to evaluate it"
    right = _share(judged["after"])
    before = f" (before: {_share(judged['before'])})" if judged["before"] is not None else ""
    return f"{learnt}{held}; on {judged['items']} held-out items {right} of recorded attributes are right{before}"


def _choices(card: Mapping[str, Any]) -> str:
    """Return how many patterns of facts have sentences of the model, and of how many items."""
    choices = card["choices"]
    own = [line for line in choices if line["chosen"] == "model"]
    items, total = (sum(line["items"] for line in lines) for lines in (own, choices))
    return (
        f"for {len(own)} of {len(choices)} patterns of facts ({items} of {total} products) its sentences find products "
        "better than those of the rules, which write the others"
    )


def _share(value: float | None) -> str:
    return "none that are recorded" if value is None else f"{value:.0%}"


def model_card(name: str, card: Mapping[str, Any]) -> str:
    """Return the card as Markdown; texts of items are quoted as code, so that nothing in them is markup."""
    lines = [
        f"# {name}",
        "",
        f"An adapter on `{card['generator']}` that writes descriptions of this catalogue's items. {fit_summary(card)}.",
        "",
        "## Made from",
        "",
        f"- Items: {', '.join(f'{count} {part}' for part, count in card['items'].items())}; "
        f"{card['lessons']} examples; data digest `{card['data']}`.",
        f"- Shown to it: {', '.join(card['given'] or ['which facts are known'])}. Prompts: "
        + ", ".join(f"`{prompt}` for a {kind}" for kind, prompt in card["prompt"].items())
        + ".",
        f"- Base: `{card['base']}`; method: {card['method']}.",
        f"- Training: `{card['training']}`.",
        "",
        "## Before and after",
        "",
        "Raw texts of held-out items, before the checks.",
        "",
    ]
    for sample in card["samples"][:_SHOWN]:
        lines += ["```", f"recorded: {_line(sample['truth'])}"]
        if sample["before"] is not None:
            lines.append(f"before:   {_line(sample['before'])}")
        lines += [f"after:    {_line(sample['after'])}", "```", ""]
    lines += [
        "## Limits",
        "",
        "It repeats what this catalogue's records say, their mistakes included, and can state what it was not shown: "
        "its texts are meant to pass the checks of `describe` before anybody reads them.",
        "",
    ]
    return "\n".join(lines)


def _line(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
