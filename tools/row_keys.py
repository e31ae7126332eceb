"""Write the row keys of a workspace as sorted JSON, or compare them with a file written before.

    python tools/row_keys.py WORKSPACE [--out KEYS.json | --compare KEYS.json] [--stale]

`tables` maps each table to item -> key, or keys where an item has several rows; `ledger` maps "stage item" to state and
key, `fits` each fit stage to the keys and file digests of its artifacts, newest first. LanceDB is read directly, so
that one copy of this script serves every version of the package. With `--stale` the installed package also says, stage
by stage, what a run would do; that needs the items' media and manifest, but computes no row.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lancedb

KEY_COLUMNS = ("row_key", "source_key", "index_key")
COPIES = ("items_of_layout_1",)
"""Tables that hold rows of another one as they were."""


def read_keys(workspace: Path) -> dict[str, Any]:
    """Read every key of a workspace."""
    db = lancedb.connect(str(workspace))
    tables: dict[str, dict[str, str]] = {}
    ledger: dict[str, str] = {}
    fits: dict[str, list[dict[str, str]]] = {}
    for name in sorted(db.list_tables(limit=10_000).tables):
        rows = db.open_table(name).search().limit(None).to_arrow()
        if name == "ledger":
            ledger = {
                f"{row['stage']} {row['item_id']}": f"{row['state']} {row['row_key']}" for row in rows.to_pylist()
            }
        elif name == "artifacts":
            for row in sorted(rows.to_pylist(), key=lambda row: (row.get("seq") or 0, row["made_at"]), reverse=True):
                fits.setdefault(row["name"], []).append({"key": row["key"], "digest": row["digest"]})
        elif "item_id" in rows.column_names and name not in COPIES:
            for column in KEY_COLUMNS:
                if column in rows.column_names:
                    place = name if column == "row_key" else f"{name}.{column}"
                    found: dict[str, list[str]] = {}
                    for item, key in zip(rows["item_id"].to_pylist(), rows[column].to_pylist(), strict=True):
                        found.setdefault(item, []).append(str(key))
                    tables[place] = {item: " ".join(sorted(keys)) for item, keys in found.items()}
    return {"tables": tables, "ledger": ledger, "fits": fits}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """List what is in one set of keys and not, or otherwise, in the other."""
    for part in ("tables", "ledger", "fits"):
        for name in sorted({*before[part], *after[part]}):
            ours, theirs = before[part].get(name), after[part].get(name)
            if ours == theirs:
                continue
            if isinstance(ours, dict) and isinstance(theirs, dict):
                changed = [item for item in ours.keys() | theirs.keys() if ours.get(item) != theirs.get(item)]
                yield f"{name}: {len(changed)} of {len(ours)} keys differ, such as that of {min(changed)}"
            else:
                yield f"{part} {name}: {ours if theirs is None else 'there'} before, {theirs} after"[:300]


def stale_stages(workspace: Path) -> list[str]:
    """List the stages of the saved pipeline in which the installed package finds something to do."""
    import coldstart

    reports = coldstart.open(workspace).status()
    return [f"{one.stage}: {one.balance.pending} of its items are to be done" for one in reports if one.balance.pending]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write or compare the row keys of a workspace.")
    parser.add_argument("workspace", type=Path, help="folder of the workspace")
    parser.add_argument("--out", type=Path, help="write the keys to this file instead of the screen")
    parser.add_argument("--compare", type=Path, help="file of keys written before; exit 1 where any differs")
    parser.add_argument("--stale", action="store_true", help="also list stages that a run would redo; exit 1 if any")
    given = parser.parse_args()
    keys = read_keys(given.workspace)
    text = json.dumps(keys, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    faults = list(differences(json.loads(given.compare.read_text("utf-8")), keys)) if given.compare else []
    faults += stale_stages(given.workspace) if given.stale else []
    if given.out:
        given.out.write_text(text, "utf-8")
    if given.compare or given.stale or given.out:
        count = sum(map(len, keys["tables"].values()))
        print("\n".join([*faults, f"{count} row keys in {len(keys['tables'])} tables, {len(faults)} differences"]))
    else:
        print(text, end="")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
