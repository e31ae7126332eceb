"""Record what was removed from a workspace, so that the next run or ingest does not bring it back unnoticed.

A removed item stands with its id. Of a removed user stands a keyed hash of the id and nothing else: whoever has both
the workspace and a guess can test the guess, nobody can read an id out of it. A removal is written here before its
first row is dropped, and marked as done after the last, so that one that was killed is known.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.keys import chain
from coldstart.core.stage import Reject, Work
from coldstart.store.sql import equals, one_of

if TYPE_CHECKING:
    from coldstart.store import Store

REMOVED = "removed"
"""Table of what was removed."""
ITEM, USER = "item", "user"

_SCHEMA = pa.schema(
    [
        ("what", pa.string()),
        ("key", pa.string()),
        ("salt", pa.string()),
        ("fits", pa.list_(pa.string())),
        ("done", pa.bool_()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)
"""`key`: the id of an item, the hash of a user's; `fits`: digests of the fits that had learnt from it."""
_CHUNK = 500
_SALT = re.compile(r"[0-9a-f]{32}")
_NO_SALT = "0" * 32


@dataclass(frozen=True)
class Tombstones:
    """Record of removed items and users of a workspace.

    Attributes:
        items: item -> time of its removal.
        users: hashes of the ids of removed users; salt: of these hashes, in hex digits.
        fits: digest of a fit -> numbers of removed items and users that it learnt from.
        open_items: items whose removal did not end; open_users: hashes of such users.
    """

    items: Mapping[str, datetime]
    users: frozenset[str]
    salt: str
    fits: Mapping[str, tuple[int, int]]
    open_items: frozenset[str]
    open_users: frozenset[str]

    def hashed(self, user_id: str) -> str:
        """Hash the id of a user as the table holds it."""
        return blake2b(
            user_id.encode("utf-8", "surrogatepass"), key=bytes.fromhex(self.salt), digest_size=16
        ).hexdigest()

    def are_removed_users(self, user_ids: pa.Array) -> NDArray[np.bool_]:
        """Tell which rows name a removed user, bool [N]; each distinct id is hashed once."""
        if not self.users:
            return np.zeros(len(user_ids), bool)
        coded = user_ids.dictionary_encode()
        gone = [name is not None and self.hashed(name) in self.users for name in coded.dictionary.to_pylist()]
        indices = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
        found: NDArray[np.bool_] = np.array([*gone, False], bool)[indices]
        return found

    def refuse(self, work: Work) -> Work:
        """Filter an item of a manifest that was removed; others pass as they are."""
        at = self.items.get(work.item_id)
        if at is None:
            return work
        why = Reject(
            "removed",
            f"removed on {at:%Y-%m-%d}: let it come back with `coldstart remove --undo {shlex.quote(work.item_id)}`",
            "filtered",
        )
        return Work(work.item_id, chain(work.key, why.reason), why)


def read_tombstones(store: Store) -> Tombstones:
    """Read what was removed from a workspace."""
    stored: list[dict[str, Any]] = store.read(REMOVED).to_pylist() if store.has(REMOVED) else []
    rows = [row for row in stored if row["key"] and row["at"] and _SALT.fullmatch(row.get("salt") or _NO_SALT)]
    items = {row["key"]: row["at"] for row in rows if row["what"] == ITEM}
    users = [row for row in rows if row["what"] == USER and row["salt"]]
    fits: dict[str, tuple[int, int]] = {}
    for row in rows:
        for digest in row.get("fits") or ():
            of_items, of_users = fits.get(digest, (0, 0))
            fits[digest] = (of_items + (row["what"] == ITEM), of_users + (row["what"] == USER))
    return Tombstones(
        items,
        frozenset(row["key"] for row in users),
        users[0]["salt"] if users else secrets.token_hex(16),
        fits,
        frozenset(row["key"] for row in rows if row["what"] == ITEM and not row.get("done")),
        frozenset(row["key"] for row in users if not row.get("done")),
    )


def write_tombstones(
    store: Store, what: str, keys: Collection[str], fits: Mapping[str, Collection[str]], salt: str, *, done: bool
) -> None:
    """Record items or users as removed; the caller holds the lock.

    Args:
        fits: key -> digests of the fits that learnt from it.
        done: nothing of them is left.
    """
    now = datetime.now(UTC)
    rows = [
        {
            "what": what,
            "key": key,
            "salt": salt if what == USER else None,
            "fits": sorted(fits.get(key, ())),
            "done": done,
            "at": now,
        }
        for key in sorted(keys)
    ]
    if rows:
        store.merge(REMOVED, pa.Table.from_pylist(rows, schema=_SCHEMA), on=("what", "key"))


def drop_tombstones(store: Store, what: str, keys: Iterable[str]) -> None:
    """Forget that items or users were removed, so that they may come back; the caller holds the lock."""
    listed = sorted(keys)
    for start in range(0, len(listed), _CHUNK):
        store.drop(REMOVED, f"{equals('what', what)} AND {one_of('key', listed[start : start + _CHUNK])}")
