"""`coldstart import` from the terminal: what it shows, asks, refuses and stores."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from catalogue import coldstart
from PIL import Image

import coldstart as package
from coldstart.ingest.sources import fetch_table
from coldstart.media.fetch import Fetcher

SHOP = "sku;name;colour;price\n0012;Blue mug;blue;12,90\n0013;Red bowl;red;1.299,00\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a shop's file and a pipeline without models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "shop.csv").write_text(SHOP, "utf-8")
    (tmp_path / "p.yaml").write_text("stages: {ingest: {}}\n", "utf-8")
    return tmp_path


def import_(*words: object) -> Any:
    return coldstart("import", *words, "--workspace", "w")


def titles(folder: Path) -> dict[str, Any]:
    rows = package.open(folder / "w").table("items").to_pylist()
    return {row["item_id"]: row["title"] for row in rows}


def test_a_shops_file_is_shown_and_stored(folder: Path) -> None:
    done = import_("shop.csv", "--pipeline", "p.yaml", "--yes")
    assert (done.returncode, done.stderr.strip()) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[lines.index("field    column  sure  samples") :][:5] == [
        "field    column  sure  samples",
        "───────  ──────  ────  ───────────────────",
        "item_id  sku     yes   0012 | 0013",
        "title    name    yes   Blue mug | Red bowl",
        "price    price   yes   12,90 | 1.299,00",
    ]
    assert "attributes: colour" in lines
    assert lines[-2] == "shop.csv: 2 rows: 2 items imported, 0 rejected"
    assert lines[-1].endswith("next: coldstart run --workspace w")
    assert max(len(line) for line in lines if " " in line) <= 80  # a path is not broken
    assert titles(folder) == {"0012": "Blue mug", "0013": "Red bowl"}
    stored = package.open(folder / "w").pipeline().raw["stages"]["ingest"]
    assert stored["map"] == {"item_id": "sku", "title": "name", "price": "price"}


@pytest.mark.slow
def test_it_asks_and_does_not_ask_again_for_the_same_columns(folder: Path) -> None:
    asked = import_("shop.csv", "--pipeline", "p.yaml")
    assert (asked.returncode, (folder / "w").exists()) == (1, False)
    assert "there is no terminal to ask on: look with --dry-run, then give --yes" in asked.stderr
    assert import_("shop.csv", "--pipeline", "p.yaml", "--yes", "--map", "title=colour").returncode == 0
    (folder / "shop.csv").write_text(SHOP + "0014;Cup;green;3\n", "utf-8")
    again = import_("shop.csv")
    assert (again.returncode, again.stderr) == (0, "")
    assert titles(folder) == {"0012": "blue", "0013": "red", "0014": "green"}
    (folder / "shop.csv").write_text("sku;name;colour;price;size\n0014;Cup;green;3;S\n", "utf-8")
    changed = import_("shop.csv")
    assert "changed: new column 'size': becomes an attribute" in changed.stdout
    assert "no terminal to ask on" in changed.stderr


def test_a_dry_run_stores_nothing(folder: Path) -> None:
    done = import_("shop.csv", "--pipeline", "p.yaml", "--dry-run")
    assert done.stdout.splitlines()[-2:] == [
        "shop.csv: 2 rows: 2 items would be imported, 0 rejected",
        "dry run: nothing was stored",
    ]
    assert not (folder / "w").exists()


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (
            "sku,name,price\n1,Mug,ask us\n2,Cup,3\n",
            "price: no price, kept as an attribute: 1 time, such as 'ask us' (row 2)",
        ),
        ("sku,product_id,name\n1,a,Mug\n2,b,Cup\n", "item_id: sku may be it too"),
        ("sku,name,price\n1,Mug,3\n1,Cup,3\n", "name: differs from the first row of its item, which counts: 1 time"),
        ("sku,name\n1,Mug\n,Cup\n", "sku: empty in 1 row, rejected without an id"),
        ("name,price\nMug,3\nCup,4\n", "no column holds an id: ids are made from name"),
        ("sku,name,price\n1,Mug,1.299\n", "values may mean two things, such as '1.299'"),
    ],
)
def test_strict_refuses_before_anything_is_stored(folder: Path, text: str, doubt: str) -> None:
    (folder / "shop.csv").write_text(text, "utf-8")
    done = import_("shop.csv", "--pipeline", "p.yaml", "--yes", "--strict")
    assert done.returncode == 1
    assert "--strict: nothing was stored: " in done.stderr
    assert doubt in done.stderr
    assert not (folder / "w").exists()


def test_json_tells_all(folder: Path) -> None:
    done = import_("shop.csv", "--pipeline", "p.yaml", "--yes", "--json")
    found = json.loads(done.stdout)
    source = found["sources"][0]
    assert (found["items"], source["rows"], source["attributes"]) == (2, 2, ["colour"])
    assert source["fields"][0] == {
        "field": "item_id",
        "columns": ["sku"],
        "confidence": 0.9,
        "reason": "'sku' is a name for item_id",
        "doubt": None,
        "samples": ["0012", "0013"],
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("titel=name", "an item has no field 'titel' (did you mean 'title'?)"),
        ("title=nam", "there is no column 'nam' (did you mean 'name'?)"),
        ("title", "give FIELD=COLUMN, such as --map title=Name"),
    ],
)
def test_a_mistyped_map_is_named(folder: Path, given: str, message: str) -> None:
    done = import_("shop.csv", "--pipeline", "p.yaml", "--yes", "--map", given)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.slow
def test_several_files_make_one_catalogue(folder: Path) -> None:
    (folder / "more.csv").write_text("Artikelnummer,Titel\n0013,Schale\n0020,Teller\n", "utf-8")
    done = import_("shop.csv", "more.csv", "--pipeline", "p.yaml", "--yes")
    assert "1 id in two of the sources, such as '0013': the later counts" in " ".join(done.stdout.split())
    assert titles(folder) == {"0012": "Blue mug", "0013": "Schale", "0020": "Teller"}


def test_hosts_that_have_to_be_allowed_are_named(folder: Path) -> None:
    text = "sku,name,image\n1,Mug,https://cdn.shop.example/1.jpg\n2,Cup,https://cdn.shop.example/2.jpg\n"
    (folder / "shop.csv").write_text(text, "utf-8")
    done = import_("shop.csv", "--pipeline", "p.yaml", "--dry-run")
    shown = " ".join(done.stdout.split())
    assert "not allowed: media of cdn.shop.example (2)" in shown
    assert "--set 'media.allowed_hosts=[cdn.shop.example]'" in shown
    assert "2 on a host that is not allowed" in shown


@pytest.mark.slow
def test_a_table_of_the_web_comes_from_the_named_host_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def get(self: Fetcher, url: str, limits: Any, file: Any, max_bytes: int) -> None:
        asked.append((url, limits.allowed_hosts))
        file.write(SHOP.encode())

    monkeypatch.setattr(Fetcher, "get", get)
    done = import_("https://shop.example/feeds/today.csv?key=1", "--pipeline", "p.yaml", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert asked == [("https://shop.example/feeds/today.csv?key=1", ("shop.example",))]
    assert len([*(folder / "w" / "downloads").glob("*/today.csv")]) == 1
    assert titles(folder) == {"0012": "Blue mug", "0013": "Red bowl"}


def test_tables_of_the_same_name_from_two_addresses_are_both_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fetcher, "get", lambda self, url, limits, file, max_bytes: file.write(url.encode()))
    urls = [f"https://shop.example/feed.csv?lang={language}" for language in ("de", "en", "de")]
    paths = [fetch_table(url, tmp_path / "downloads") for url in urls]
    assert [path.name for path in paths] == ["feed.csv"] * 3
    assert [path.read_text() for path in paths] == urls
    assert len({*paths}) == 2 == len([*(tmp_path / "downloads").glob("*/*")])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://shop.example/x.csv", "tables are fetched over https alone"),
        ("https://10.0.0.1/x.csv", "private_address"),
        ("https://localhost/x.csv", "private_address"),
    ],
)
def test_an_address_that_is_not_fetched_is_named(folder: Path, url: str, reason: str) -> None:
    done = import_(url, "--pipeline", "p.yaml", "--yes")
    assert done.returncode == 1
    assert reason in done.stderr
    assert not (folder / "w").exists()


@pytest.mark.slow
def test_pictures_inside_a_table_go_into_the_workspace(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(stream, "JPEG")
    (folder / "data").mkdir()
    picture = {"bytes": stream.getvalue(), "path": "1.jpg"}
    pq.write_table(pa.table({"id": ["a", "b"], "image": [picture, picture]}), folder / "data" / "x.parquet")
    done = import_("data/x.parquet", "--pipeline", "p.yaml", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (folder / "data").iterdir()] == ["x.parquet"]
    assert len(list((folder / "w" / "media").iterdir())) == 1
    assert package.open(folder / "w").table("items").num_rows == 2


def test_ingest_and_run_read_a_shops_file_by_its_names(folder: Path) -> None:
    done = coldstart("ingest", "shop.csv", "--pipeline", "p.yaml", "--workspace", "w")
    assert (done.returncode, done.stderr) == (0, "")
    assert titles(folder) == {"0012": "Blue mug", "0013": "Red bowl"}
    assert "item_id from sku, title from name, price from price; other columns that are attributes: 1" in " ".join(
        done.stdout.split()
    )
