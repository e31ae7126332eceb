"""A folder as `align.behaviour` leaves it, fitted on the made-up world, for stages that stand on one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from behaviour_world import world

from coldstart.recommend.inputs import FIT_FILE
from coldstart.recommend.model.fitted import to_files
from coldstart.recommend.model.fusion import Content
from coldstart.recommend.model.selection import SelectionSettings, select_model


@cache
def folder(space: str, passport: str) -> Path:
    """Over one space of 24 numbers, whose passport has that digest."""
    known = world(users=60, items=60, per_user=12)
    content = Content(known.content.item_ids, {space: known.content.blocks["picture"]}, known.content.records)
    settings = SelectionSettings(
        candidates={"ridge": {"target": "users"}}, weights={space: 1.0, "labels": 0.5}, power=0.5, dim=8
    )
    made = select_model(known.interactions, content, settings).behaviour
    card: Mapping[str, object] = {"dim": made.dim, "spaces": {space: passport}}
    target = Path(tempfile.mkdtemp(prefix="behaviour-fit-"))
    for name, data in {**to_files(made), FIT_FILE: json.dumps(card).encode()}.items():
        (target / name).write_bytes(data)
    return target
