"""Describe the JSON of every command as a JSON Schema: one object of the command's own fields, `notes` and, after a
fault, `error`.

Fields stay as they are between minor versions; new ones may be added. A type is written `string`, `string?` where it
may be null, `[string]` for a list and `{string}` for an object of such values; a name in capitals is one of `PARTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from coldstart.core.error_fields import KINDS

Fields = Mapping[str, tuple[str, str]]
"""Field -> type and meaning; a name that ends in `?` may be missing."""

PARTS: Mapping[str, Fields] = {
    "HIT": {
        "item_id": ("string", "id of the item"),
        "score": ("number", "0: as near as the catalogue on average; 1: as near as right items are"),
        "kind": ("string?", "product or video"),
        "title": ("string?", "title"),
        "category": ("string?", "category"),
        "price": ("number?", "price"),
        "uri": ("string?", "its first media file"),
        "ranks": ("{integer}", "space, or full_text -> place there, from 1"),
        "distances": ("{number}", "space -> 1 - cosine"),
        "copies": ("[string]", "items that are linked to it as copies"),
        "creator": ("string?", "creator"),
    },
    "BALANCE": {
        "fresh": ("integer", "items with a row that is up to date"),
        "failed": ("integer", "items that could not be done"),
        "filtered": ("integer", "items that were skipped on purpose"),
        "duplicate": ("integer", "items that are copies of others"),
        "pending": ("integer", "items that the next run does, or the next fit where fit_in_use"),
        "reasons": ("{integer}", "reason code -> items"),
    },
    "STAGE": {
        "stage": ("string", "name in the pipeline"),
        "kind": ("string", "kind of stage"),
        "balance": ("BALANCE", "items in each state; the states add up to all items"),
        "ran": ("object", "work of this run: done, lost, seconds and more"),
        "notes": ("[string]", "remarks"),
        "fault_places": ("{integer}", "place in a decoder -> items that failed there"),
        "fault": ("string", "why its settings do not resolve; empty where they do"),
        "fit_in_use": ("boolean", "its pending items are newer than a fit that stays in use: a run leaves them"),
    },
    "SID": {
        "item_id": ("string", "id of the item"),
        "sid": ("string", "its codes, joined by -"),
        "codes": ("[integer]", "its codes"),
        "title": ("string?", "title"),
        "category": ("string?", "category"),
    },
    "SID_VERSION": {
        "version": ("string", "first digits of the fit's digest"),
        "served": ("boolean", "the publication has these IDs, or has none and these are the newest"),
        "made_at": ("string", "ISO 8601"),
        "method": ("string", "rqkmeans, opq, fsq or rqvae"),
        "sizes": ("[integer]", "codes of each level"),
        "space": ("string", "space that is coded"),
        "collisions": ("string", "reassign, suffix or keep"),
    },
    "SOURCE": {
        "source": ("string", "as it was named"),
        "path": ("string", "file or folder that was read"),
        "fields": ("[object]", "field, columns, confidence, reason, doubt and samples"),
        "id_from": ("[string]", "columns that ids are made from, where none holds them"),
        "attributes": ("[string]", "columns that became attributes"),
        "rows": ("integer", "rows of the table"),
        "items": ("integer", "items that were made of them"),
        "joined": ("integer", "rows that were joined into the items of other rows"),
        "rejected": ("{integer}", "reason code -> rows"),
        "examples": ("{string}", "reason code -> the first of them"),
        "doubts": ("[string]", "what may be wrong, with counts and examples"),
        "warnings": ("[string]", "attributes that count interactions, which no new item can have"),
        "notes": ("[string]", "what was decided about the file"),
        "known": ("boolean", "read as in the last import"),
        "changes": ("[string]", "columns that came or went since the last import"),
        "hosts_to_allow": ("{integer}", "web host that is not allowed -> media there"),
    },
    "FAULT": {
        "setting": ("string?", "name of the setting"),
        "line": ("integer?", "line in the pipeline file, from 1"),
        "column": ("integer?", "column there, from 1"),
        "fault": ("string", "what is wrong"),
    },
    "SKIPPED": {
        "stage": ("string", "stage without a row of it"),
        "item_id": ("string", "id of the item"),
        "state": ("string", "failed, filtered or duplicate"),
        "reason": ("string", "reason code"),
        "detail": ("string", "value and limit"),
    },
    "PUBLICATION": {
        "tag": ("string", "name of the publication"),
        "version": ("integer", "version of the catalog table"),
        "published_at": ("string", "ISO 8601"),
        "rows": ("integer", "items served"),
        "spaces": ("[string]", "spaces served"),
    },
    "WAITING": {
        "item_id": ("string", "id of the item"),
        "title": ("string?", "title"),
        "kind": ("string?", "product or video; null where its row could not be read"),
        "state": ("string", "failed, filtered, duplicate or claim"),
        "stage": ("string", "where it was turned away"),
        "reason": ("string", "reason code"),
        "words": ("string", "the same in plain words"),
        "detail": ("string", "value and limit"),
        "claim": ("string?", "name of a removed claim; null for items"),
        "value": ("string?", "text of a removed claim"),
        "original": ("string?", "item that it is a copy of"),
        "actions": ("[string]", "decisions that apply: approve, reject, correct"),
    },
    "DECISION": {
        "decision_id": ("string", "id of the decision"),
        "item_id": ("string", "id of the item"),
        "action": ("string", "approve, reject or correct"),
        "subject": ("string", "item, stage:NAME, field:NAME or claim:NAME"),
        "value": ("any", "new value of a field, or text of a claim"),
        "before": ("any", "value of the field at that time"),
        "reason": ("string", "why"),
        "by": ("string", "who"),
        "at": ("string", "ISO 8601"),
        "in_force": ("boolean", "neither undone nor replaced by a later one"),
        "undone_at": ("string?", "ISO 8601"),
        "undone_by": ("string?", "who undid it"),
        "undone_reason": ("string?", "why"),
    },
    "MODEL": {
        "name": ("string", "name"),
        "job": ("string", "what it is for"),
        "licence": ("string", "licence"),
        "size_bytes": ("integer", "size of its files"),
        "digest": ("string", "SHA-256 over its files"),
        "state": ("string", "ready, missing or damaged"),
        "optional": ("boolean", "left out by pull starter"),
        "graph": ("string?", "state of its ONNX graph for queries; null where it has none"),
        "origin": ("string", "where it comes from"),
        "package": ("string", "package that holds it"),
        "version": ("string", "version of the package"),
    },
    "PROMPT": {
        "name": ("string", "name"),
        "version": ("integer", "version"),
        "digest": ("string", "SHA-256 of its file"),
        "inputs": ("[string]", "fields of the item in it"),
        "output": ("[string]", "fields that the model writes"),
        "budgets": ("{integer}", "input -> tokens at most"),
    },
    "EVALUATED": {
        "capability": ("string", "name, as --only takes it"),
        "question": ("string", "in words of a shop"),
        "statement": ("string", "the answer up to its value"),
        "sentence": ("string", "the answer"),
        "measure": ("string", "name of the measure"),
        "n": ("integer", "queries, items or claims behind the value"),
        "of": ("string", "noun for them"),
        "groups": ("integer?", "groups of them that count as one; null where each is alone"),
        "value": ("object?", "value, low and high of the 95 % interval"),
        "baseline": ("object?", "name and interval"),
        "difference": ("object?", "value less baseline, paired; null where they are not of the same queries"),
        "verdict": ("string", "better, level, worse, few, not_applicable, not_fitted, left_out or failed"),
        "why": ("string", "reason for a verdict that compares nothing"),
        "is_share": ("boolean", "the value is a share of n"),
        "fewer_is_better": ("boolean", "the value counts faults"),
        "method": ("string", "how it was measured, and what was held out"),
        "command": ("string", "measures this in detail, or does what is missing"),
        "headline": ("boolean", "stands among the sentences at the top"),
    },
    "RECOMMENDATION": {
        "item_id": ("string", "id of the item"),
        "rank": ("integer", "place, from 1"),
        "score": ("number", "score"),
        "cold": ("boolean", "few or no interactions"),
        "explored": ("boolean", "drawn at random by --explore"),
        "propensity": ("number", "probability of this slot"),
        "kind": ("string?", "product or video"),
        "title": ("string?", "title"),
        "category": ("string?", "category"),
        "price": ("number?", "price"),
        "reason?": ("string?", "why, in words"),
        "sources?": ("[object]", "channels that named it, with its rank in each; of a ranked list"),
        "nearest?": ("[object]", "liked items that spoke for it: item_id, by co-occurrence or content, weight"),
        "p?": ("object", "event -> probability, or score where it is not calibrated"),
    },
}
"""Name -> a shape that several commands share."""

_RUN: Fields = {
    "stages": ("[STAGE]", "work and balance of each stage"),
    "seconds": ("number", "duration"),
    "over_budget": ("[string]", "stages in which more failed than max_failed allows"),
    "maintenance": ("object?", "upkeep of the tables: bytes before and after"),
    "estimated": ("object?", "the dry run before it, compared"),
    "losses": ("object", "stage over budget -> its most frequent reasons, with an example"),
    "stopped_after": ("string?", "source stage that lost most of its items"),
    "interactions?": ("object", "rows of interactions that were read beside it"),
}
_ESTIMATE: Fields = {
    "stages": ("[object]", "rows, seconds, memory, disk and bottleneck of each stage"),
    "seconds": ("number", "all stages"),
    "range": ("[number]", "least and most seconds"),
    "seconds_there": ("number?", "on the machine of --on"),
    "upkeep_s": ("number", "upkeep of the tables"),
    "left_out": ("[string]", "stages that could not be estimated"),
    "assumptions": ("[object]", "what the figures rest on"),
    "on": ("object?", "the machine of --on"),
}
_MODELS: Fields = {"folder": ("string", "where they lie"), "models": ("[MODEL]", "one each")}
_DECIDED: Fields = {
    "decision": ("DECISION", "what was decided"),
    "outcome": ("object?", "state of the item now: state, change, stage, reason and detail; null where it left"),
    "publication": ("string?", "what is served now"),
}
_EXPORTED: Fields = {
    "out": ("string", "file or folder"),
    "format": ("string", "format"),
    "files": ("[object]", "what, out, rows, size_bytes and left_out of each"),
}

COMMANDS: Mapping[str, Fields] = {
    **dict.fromkeys(("run", "ingest", "understand", "embed", "index", "retry", "describe"), _RUN),
    **{f"{name} --dry-run": _ESTIMATE for name in ("run", "ingest", "understand", "embed", "describe")},
    "import": {
        "sources": ("[SOURCE]", "one a table or folder"),
        "items": ("integer", "items that were made"),
        "rejected": ("integer", "rows that were rejected"),
        "doubled": ("integer", "ids that stand in two of the sources"),
        "dry_run": ("boolean", "nothing was stored"),
        "seconds": ("number", "wall time"),
    },
    "ingest --interactions": {
        "interactions": ("object", "rows read, added, repeated and rejected; those of the log that are likes")
    },
    **{
        f"ingest --{name}": {
            "impressions": ("object", "rows read, added, renewed, repeated, early and rejected; showings in the table")
        }
        for name in ("impressions", "outcomes")
    },
    "index --history": {
        "publications": ("[PUBLICATION]", "newest first"),
        "published?": ("string", "after --rollback: the tag that is served again"),
    },
    "status": {
        "workspace": ("string", "its URI"),
        "size_bytes": ("integer?", "size on disk"),
        "stages": ("[STAGE]", "balance of each stage"),
        "interactions": ("object?", "rows, users and items of the log"),
        "histories": ("object?", "users, actions, longest, dropped above the cap, left_out, cap and bytes"),
        "impressions": ("object?", "showings, days, outcomes and known propensities of the log"),
        "languages": ("{integer}", "code of a language -> items; und: it does not show"),
        "decisions": ("{integer}", "reject, approve and correct in force, undone, and lapsed: its item changed since"),
    },
    "status --impressions": {
        "workspace": ("string", "its URI"),
        "rows": ("integer", "impressions"),
        "known": ("integer", "those that state a propensity"),
        "items": ("integer", "items of the log"),
        "covered_items": ("integer", "those that an impression with a propensity shows"),
        "requests": ("integer", "named requests"),
        "doubled": ("integer", "places of a request with several items"),
        "above_one": ("integer", "those of them whose propensities sum to more than 1"),
        "slots": ("[object]", "propensities, coverage and effective rows of each position"),
    },
    "status --failed": {
        "workspace": ("string", "its URI"),
        "items": ("[SKIPPED]", "one an item and stage"),
        "bad_media": ("[object]", "item_id, role, uri, reason and detail of each medium that an item does without"),
    },
    "status --trust": {"workspace": ("string", "its URI"), "settings": ("[object]", "setting and value")},
    "init": {
        "pipeline": ("string", "the file that was written"),
        "found": ("object?", "rows that were read, and how many have pictures, videos, titles, …"),
        "next": ("string", "the command that runs it"),
    },
    "schema": {"schema": ("object", "JSON Schema of pipeline files, or of these objects")},
    "schema --out": {"file": ("string", "the file that was written")},
    "check": {"pipeline": ("string", "as given"), "faults": ("[FAULT]", "all faults")},
    "check --workspace": {
        "workspace": ("string", "its URI"),
        "repaired": ("boolean", "--repair was given"),
        "damages": ("[object]", "table, damage and cost of each"),
    },
    "doctor": {
        "coldstart": ("string", "version"),
        "python": ("string", "version"),
        "system": ("string", "operating system"),
        "device": ("string", "device that is used"),
        "models": ("string", "starter models, and optional ones that were pulled, with their state"),
        "languages of the items?": ("string", "of a workspace: languages with shares, and the encoder to choose"),
    },
    "search": {"hits": ("[HIT]", "best first")},
    "search --queries": {
        "query_id": ("string?", "of the file of queries; one object a line"),
        "hits?": ("[HIT]", "best first; missing where the query has no answer"),
        "notes?": ("[string]", "remarks, such as why nothing was found"),
        "reason?": ("string", "reason code of a query without an answer"),
        "detail?": ("string", "what was wrong with it"),
    },
    "match": {
        "asked": ("string", "the item or the file"),
        "used": ("[string]", "what was compared"),
        "matches": ("[object]", "products with frame, words, channels and score"),
        "channels": ("[object]", "channel and weight"),
        "weights": ("string", "default or fitted"),
        "candidates": ("integer", "products compared"),
        "exact": ("boolean", "all of them were compared"),
    },
    "match --fit": {
        "channels": ("[object]", "fitted weights"),
        "default": ("[object]", "default weights"),
        "before": ("object", "recall with the default weights"),
        "after": ("object", "recall with the fitted ones"),
        "trained_on": ("integer", "videos of the fit"),
        "held_out": ("integer", "videos that measure it"),
        "kept": ("boolean", "the fitted weights serve from now on"),
        "left_out": ("[string]", "faulty pairs"),
    },
    "label": {
        "labels": ("[object]", "label, items and mean_score"),
        "unknown": ("integer", "items near no class"),
        "run": ("object", "as of `run`"),
        "calibration?": ("object", "of the scores"),
        "quality?": ("object", "of the labels"),
    },
    "describe --ab": {"items": ("[object]", "item, and what each writer wrote, kept and lost")},
    "prompts": {"prompts": ("[PROMPT]", "packaged ones")},
    "prompts PROMPT": PARTS["PROMPT"],
    "prompts --item": {
        "prompt": ("string", "its name"),
        "digest": ("string", "SHA-256 of its file"),
        "item_id": ("string", "the item"),
        "system": ("string", "system message"),
        "text": ("string", "rendered prompt"),
        "system_tokens": ("integer", "tokens of the system message"),
        "text_tokens": ("integer", "tokens of the text"),
        "inputs": ("object", "input -> tokens, read, budget"),
    },
    "recommend": {
        "user_id": ("string?", "null for a history"),
        "scored_by": ("string", "behaviour, or the spaces of content"),
        "history": ("integer", "liked items that it is computed from"),
        "items": ("[RECOMMENDATION]", "best first"),
        "ranked?": ("object", "whether a ranker ordered the list: on, why, summary; where one is fitted"),
        "rerank?": ("object", "requested, kind that ordered the list, why not another, fault, ms; with --rerank"),
    },
    "recommend --users": {
        "out": ("string", "file"),
        "users": ("integer", "number of lists"),
        "without_history": ("integer", "users without liked items"),
        "ranked": ("object?", "whether a ranker ordered the lists: on, why, summary; null where none is fitted"),
        "rerank": ("object?", "requested, kind, why not another, faults by number; null without --rerank"),
        "rows": ("integer", "rows written"),
        "cold_share": ("number", "share of cold items"),
        "scored_by": ("string", "behaviour, or the spaces of content"),
        "seconds": ("number", "duration"),
    },
    "audience": {
        "item_id": ("string", "the item"),
        "scored_by": ("string", "behaviour, or the spaces of content"),
        "by": ("string", "score or lift"),
        "cold": ("boolean", "the item has few or no interactions"),
        "users": ("integer", "users scored"),
        "met": ("integer", "users left out, who interacted with it"),
        "people": ("[object]", "user_id, rank, score and reason, best first"),
    },
    "ask": {
        "question": ("string", "as asked"),
        "generator": ("string", "rules, or the model that planned and wrote"),
        "intent": ("string", "what the rules took it for; empty for a model"),
        "outcome": ("string", "answered; none: the catalogue does not say; not_understood: no question that is known"),
        "answer": ("string", "the sentences, a line each"),
        "sentences": ("[object]", "text and cites: item_id or call, and field"),
        "items": ("[string]", "ids that the answer names"),
        "value": ("number?", "the number that the answer states"),
        "refused": ("boolean", "its outcome is none or not_understood"),
        "why": ("string", "why it was refused"),
        "users": ("[string]", "ids of users that the answer names"),
        "cut": ("[object]", "sentences without ground, with the reason"),
        "steps": ("[object]", "calls of tools: arguments, seconds, items and fault"),
        "tokens": ("integer", "read and written by a model"),
        "seconds": ("number", "duration"),
    },
    "show": {
        "item_id": ("string", "id of the item"),
        "item": ("object", "its fields, and the language of its texts"),
        "spoken_language": ("string?", "of its speech"),
        "timeline": ("[object]", "shots, speech and text on screen by time"),
        "unread": ("[object]", "lines on screen in a script that the reader cannot write, with its name"),
        "dropped": ("[object]", "words left out as invented, with the reason"),
        "quality": ("object?", "measures"),
        "safety": ("object?", "policy and findings"),
        "described": ("object?", "description, its evidence and removed claims"),
        "duplicate_of": ("object?", "its original, with changes in words and placement within the copy"),
        "copies": ("[object]", "its copies, with changes in words"),
        "stages": ("[object]", "state in every stage"),
        "decisions": ("[DECISION]", "decisions of people that are in force"),
    },
    "sids": {
        "versions": ("[SID_VERSION]", "stored versions, the newest first"),
        "first": ("[object]", "first codes, that of most items first: prefix, items, children"),
        "page": ("string?", "page that was written"),
    },
    "sids --prefix": {
        "items": ("[SID]", "items of the prefix in the order of IDs, or the item that was named"),
        "beside": ("[SID]", "of a named item: those that share all codes but the last"),
    },
    "sids --export": {"out": ("string", "file that was written"), "rows": ("integer", "IDs in it")},
    "sids --health": {
        "version": ("string", "first digits of the version"),
        "space": ("string", "space that is coded"),
        "method": ("string", "rqkmeans, opq, fsq or rqvae"),
        "rule": ("string", "reassign, suffix or keep"),
        "items": ("integer", "items with an ID"),
        "unique_share": ("number", "different IDs over items"),
        "colliding_share": ("number", "items that share an ID"),
        "largest_bucket": ("integer", "most items of one ID"),
        "nearest_unique_share": ("number", "the same before collisions were resolved"),
        "nearest_colliding_share": ("number", "the same before collisions were resolved"),
        "nearest_largest_bucket": ("integer", "the same before collisions were resolved"),
        "levels": ("[object]", "codes, used, perplexity, largest, variance_left and prefixes of each level"),
        "refitted": ("integer", "items that reach and churn were measured on"),
        "reach": ("[object]", "level and measure: held-out new items whose prefix an item of the fit has"),
        "churn": ("object?", "old items that move when new ones come, and by a new fit"),
        "users": ("integer", "users whose histories were compared with"),
        "agreement": ("[object]", "groupings with pairs, lift, purity and nmi, each also shuffled"),
        "emitted": ("number?", "share of new items in any list; null: no model decodes the IDs"),
        "warnings": ("[string]", "what to look at"),
        "versions": ("[SID_VERSION]", "stored versions, the newest first"),
        "page": ("string?", "page that was written"),
    },
    "remove": {
        "what": ("string", "item or user"),
        "removed": ("integer", "how many"),
        "unknown": ("[string]", "ids that the workspace does not have"),
        "already": ("[string]", "ids that were removed before"),
        "rows": ("{integer}", "table -> rows dropped"),
        "copies": ("[string]", "linked copies that the next run matches anew"),
        "interactions_kept": ("integer", "interactions with removed items, which stay"),
        "impressions_kept": ("integer", "showings of removed items, which stay"),
        "publication": ("string?", "what is served now"),
        "fits": ("[object]", "fits that learnt from them"),
        "dry_run": ("boolean", "nothing was removed"),
    },
    "review list": {
        "entries": ("[WAITING]", "what waits, in the order of the queue"),
        "counts": ("{integer}", "state -> entries that wait"),
        "after": ("string?", "place where the next page begins; null after the last"),
    },
    **dict.fromkeys((f"review {name}" for name in ("approve", "reject", "correct", "undo")), _DECIDED),
    "review log": {
        "decisions": ("[DECISION]", "the newest first"),
        "after": ("string?", "decision that the next page follows; null after the last"),
    },
    "remove --undo": {"back": ("[string]", "ids that may come back")},
    **{
        f"export {name}": _EXPORTED
        for name in ("items", "vectors", "descriptions", "recommendations", "impressions", "ledger", "all")
    },
    "export adapter": {
        "folder": ("string", "folder of the merged model"),
        "size_bytes": ("integer", "size of its files"),
        "prompts": ("integer", "prompts that were compared"),
        "agreement": ("string", "which ways wrote the same texts"),
    },
    "models": _MODELS,
    **{f"models {name}": _MODELS for name in ("list", "pull", "verify")},
    "finetune align": _RUN,
    "finetune behaviour": {**_RUN, "fits": ("object", "stage -> report of its fit")},
    "finetune describe": _RUN,
    "finetune sids": _RUN,
    "finetune rerank": _RUN,
    "finetune rank": {**_RUN, "fits": ("object", "stage -> report of its fit")},
    "finetune recall": {**_RUN, "fits": ("object", "stage -> report of its fit")},
    "evaluate align": {
        "split": ("string", "items evaluated"),
        "counts": ("object", "numbers of items"),
        "before": ("object?", "retrieval before the fit"),
        "compared_with": ("string?", "what before is"),
        "after": ("object", "retrieval after it"),
        "difference": ("object?", "after less before"),
        "unseen": ("object?", "seen and unseen groups and classes, among all items"),
    },
    "evaluate describe": {
        "split": ("string", "items evaluated"),
        "counts": ("object", "numbers of items"),
        "measures": ("object", "writer -> measures before and after the checks"),
        "texts": ("object", "writer -> texts stored in the workspace, and texts written now"),
        "gain": ("object", "search by the descriptions"),
    },
    "evaluate safety": {
        **{
            name: ("object", f"closed, n, value, low and high: {text}")
            for name, text in {
                "picture_alarms": "harmless items whose pictures were scored, closed by these",
                "alarms": "harmless items",
                "picture_recall": "unsafe items whose pictures were scored, closed by these",
                "recall": "unsafe items; value null: not measured",
                "unlabelled": "items of which neither is known",
            }.items()
        },
        "wrong": ("{string}", "harmless item that is closed -> why; the first twenty"),
        "policy": ("string", "name and version"),
        "classifier": ("string?", "of pictures"),
    },
    "evaluate all": {
        "workspace": ("string", "its URI"),
        "items": ("{integer}", "kind -> items"),
        "made_at": ("string", "ISO 8601"),
        "publication": ("string?", "what is served"),
        "published_at": ("string?", "ISO 8601"),
        "settings": ("string", "digest of the settings in force"),
        "quick": ("boolean", "samples were measured"),
        "rows": ("[EVALUATED]", "one a question, in the order of the page"),
        "capabilities": ("[object]", "name, title, cpu_s and estimated_s of each"),
        "verdicts": ("{string}", "verdict -> words for it"),
    },
    "evaluate ask": {"reports": ("[object]", "one a generator: shares with intervals, by intent, and wrong answers")},
    "evaluate recommend": {
        "split": ("object", "kind, part and digest"),
        "counts": ("object", "users and items"),
        "methods": ("object", "method -> measures, also without the most liked items and by popularity"),
        "most_liked": ("object", "set -> its most liked items, and what remains without them"),
        "popularity": ("object", "set -> groups of its liked items by their likes"),
        "count_attributes": ("object?", "attributes that count interactions, and the gain that rests on them"),
        "left_out": ("{string}", "method -> why not"),
        "checked": ("[string]", "kinds of leaks that were looked for"),
    },
    "evaluate rerank": {
        "base": (
            "object",
            "name, digest, items and requests of the lists, and valid: requests for settings",
        ),
        "certificates": ("{object}", "kind -> its certificate; why_not: null, or why `auto` does not serve it"),
        "left_out": ("{string}", "kind -> why not"),
        "notes": ("[string]", "what to know of the figures"),
    },
    "evaluate recall": {
        "split": ("object", "kind, digest, cut, seeds, and epochs of the trained methods"),
        "counts": ("object", "users, items, and targets that are warm and new"),
        "methods": ("object", "method -> title, measures of each set, share of new items in any list, seconds"),
        "compared": ("object?", "both less the best other row, with intervals"),
        "left_out": ("{string}", "method -> why not"),
        "checked": ("[string]", "what was checked against leaks"),
        "notes": ("[string]", "what to know of the figures"),
        "sets": ("{string}", "set of targets -> its title"),
    },
    "evaluate rank": {
        "split": ("object", "kind, cut in seconds, fitted and judged showings"),
        "counts": ("object", "users, items, showings of new items, features"),
        "chosen": ("string", "model that the fit would take"),
        "titles": ("{string}", "method -> its title"),
        "events": ("object", "outcome -> rows, rate, users, measures of methods, differences of GAUC, warm and cold"),
        "notes": ("[string]", "what was left out"),
        "checked": ("[string]", "what was checked against leaks"),
        "fit": ("object", "log loss on the latest fitted part, trees, passes, calibration"),
    },
    "rank": {
        "user": ("string", "for whom"),
        "at": ("string", "time of the request"),
        "model": ("string", "trees, attention, both, long or trees_and_long"),
        "items": (
            "[object]",
            "item_id, rank, state (known, new, unknown), score, p of each outcome and its 95 % interval; best first",
        ),
        "calibrated": ("object", "outcome -> whether its p is a probability; otherwise a score"),
        "weights": ("object", "outcome -> weight of log p in the score"),
        "known_user": ("boolean", "met or shown anything"),
        "actions": ("integer", "of the history before the request"),
        "dropped": ("integer", "actions at or after the request, left out"),
    },
    "evaluate stages": {
        "steps": ("[object]", "recall, gain and seconds of each step"),
        "missing": ("[object]", "steps that were not evaluated, with the reason"),
        "counts": ("object", "users and items"),
        "k": ("integer", "of recall@k"),
        "caveats": ("[string]", "what the figures do not say"),
    },
    "demo": {
        "items": ("integer", "items of the sample catalogue"),
        "recall": ("number", "recall@5 of products shown in videos"),
        "workspace": ("string", "its folder"),
        "page": ("string", "page of results"),
    },
}
"""Command, or a mode of it -> its own fields."""

_ERROR: Fields = {
    "kind": ("string?", "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())),
    "message": ("string", "one line: value, place, next step"),
    "where": ("string?", "the place: an option, a file and line, a setting"),
    "next": ("string?", "the next step"),
}


def schema() -> dict[str, Any]:
    """Build the JSON Schema of all outputs; `$defs` has one entry a command and mode, such as `status --failed`."""
    parts = {name: _object(fields) for name, fields in PARTS.items()}
    commands = {name: _object({**fields, **_COMMON}) for name, fields in COMMANDS.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Output of coldstart with --json",
        "$defs": {**parts, **commands, "ERROR": _object(_ERROR), "fault": _object({"error": ("ERROR", ""), **_NOTES})},
        "anyOf": [{"$ref": f"#/$defs/{quote(name)}"} for name in (*commands, "fault")],
    }


_NOTES: Fields = {"notes?": ("[string]", "remarks for people")}
_COMMON: Fields = {**_NOTES, "error?": ("ERROR", "the work was done, and its result is below what was required")}


def _object(fields: Fields) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            name.removesuffix("?"): _type(given) | ({"description": meaning} if meaning else {})
            for name, (given, meaning) in fields.items()
        },
        "required": [name for name in fields if not name.endswith("?")],
    }


def _type(given: str) -> dict[str, Any]:
    if given == "any":
        return {}
    if given.endswith("?"):
        inner = _type(given[:-1])
        return {"anyOf": [inner, {"type": "null"}]} if "$ref" in inner else {"type": [inner["type"], "null"]}
    if given[0] == "[":
        return {"type": "array", "items": _type(given[1:-1])}
    if given[0] == "{":
        return {"type": "object", "additionalProperties": _type(given[1:-1])}
    return {"$ref": f"#/$defs/{given}"} if given.isupper() else {"type": given}
