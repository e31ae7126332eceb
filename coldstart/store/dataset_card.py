"""Describe exported tables as a Hugging Face dataset: features in the Parquet files, and the card `README.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import yaml

_ABOUT = {
    "items": "the catalogue, one row an item; `attributes` is a JSON object in text",
    "descriptions": "what was written, labelled, heard and read of an item, with the evidence of each claim",
    "ledger": "items that a stage skipped or failed on, and why",
}


def with_features(schema: pa.Schema) -> pa.Schema:
    """Add the features of a schema to its metadata, as the library `datasets` reads them."""
    features = {own.name: _feature(own.type) for own in schema}
    metadata = {**(schema.metadata or {}), b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return schema.with_metadata(metadata)


def _feature(kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return {own.name: _feature(own.type) for own in kind}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "Sequence"}
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        return [inner] if pa.types.is_struct(kind.value_type) else {"feature": inner, "_type": "Sequence"}
    return {"dtype": _VALUES.get(str(kind), str(kind)), "_type": "Value"}


_VALUES = {"double": "float64", "float": "float32"}


def dataset_card(tables: Mapping[str, tuple[str, pa.Schema]], about: Mapping[str, Any]) -> str:
    """Write the card of a dataset.

    Args:
        tables: name -> folder of its Parquet files, and its schema; a single one is the default configuration.
        about: what is recorded of the export.
    """
    configs = [
        {
            "config_name": "default" if len(tables) == 1 else name,
            "data_files": [{"split": "train", "path": f"{folder}/*.parquet"}],
        }
        for name, (folder, _) in tables.items()
    ]
    head = yaml.safe_dump({"configs": configs, "tags": ["coldstart"]}, sort_keys=False)
    lines = [f"---\n{head}---", "", "# Catalogue exported by coldstart", ""]
    for what, rows in about["rows"].items():
        lines.append(f"- {what}: {rows:,} rows")
    lines += ["", "State the licence of the catalogue here before you share it. Media are named by their places and "]
    lines[-1] += "are not part of the dataset."
    for name, (folder, schema) in tables.items():
        text = _ABOUT.get(name, "unit vectors of one space, whose products are cosines")
        lines += ["", f"## {name}", "", f"{text[0].upper()}{text[1:]}.", "", "| column | type |", "|---|---|"]
        lines += [f"| {own.name} | {own.type} |" for own in schema]
        lines += ["", f"Files: `{folder}/`."]
    for space, passport in about["passports"].items():
        lines += ["", f"Encoder of space `{space}`:", "", "```json", json.dumps(passport, indent=2), "```"]
    return "\n".join([*lines, ""])
