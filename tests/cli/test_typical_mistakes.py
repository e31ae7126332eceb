"""Mistakes of new users: each gets one line with the value, the place and the next step, and no trace."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from catalogue import coldstart as cli
from catalogue import rows, settings, write_manifest, write_pipeline

import coldstart
from coldstart.core.settings import data_folder

MISTAKES = [
    (
        "serach --text mug",
        2,
        (
            "Usage: coldstart [OPTIONS] COMMAND [ARGS]...\nTry 'coldstart --help' for help.\n\nError: No "
            "such command 'serach'. Did you mean 'search'?"
        ),
    ),
    (
        "search --txet mug",
        2,
        (
            "Usage: coldstart search [OPTIONS]\nTry 'coldstart search --help' for help.\n\nError: No such "
            "option: --txet (Possible options: --exact, --item, --text)"
        ),
    ),
    ("search", 1, "error: give exactly one of --text, --image, --video, --item and --queries"),
    (
        "search --text mug --image text.jpg",
        1,
        "error: give exactly one of --text, --image, --video, --item and --queries",
    ),
    (
        "search --text mug --top-k 0",
        2,
        (
            "Usage: coldstart search [OPTIONS]\nTry 'coldstart search --help' for help.\n\nError: Invalid "
            "value for '--top-k' / '-k': Input should be greater than or equal to 1"
        ),
    ),
    (
        "search --text mug --top-k ten",
        2,
        (
            "Usage: coldstart search [OPTIONS]\nTry 'coldstart search --help' for help.\n\nError: Invalid "
            "value for '--top-k' / '-k': Input should be a valid integer, unable to parse string as an "
            "integer"
        ),
    ),
    ('search --text ""', 1, "error: text is blank: give what to search for"),
    (
        "search --text mug -w shpo.workspace",
        1,
        (
            "error: no workspace at shpo.workspace (did you mean 'shop.workspace'?): make one with "
            "`coldstart run PIPELINE --workspace shpo.workspace`"
        ),
    ),
    (
        "search --text mug -w empty.workspace",
        1,
        (
            "error: nothing is published in workspace empty.workspace, which has no items yet: "
            "`coldstart run PIPELINE --manifest FILE --workspace empty.workspace`"
        ),
    ),
    (
        "search --text mug -w new.workspace",
        1,
        (
            "error: nothing is published in workspace new.workspace, which has 6 items and no index of "
            "them yet: `coldstart run --workspace new.workspace`"
        ),
    ),
    (
        "search --text mug -w photos/items.jsonl",
        1,
        "error: photos/items.jsonl is a file, not a workspace: give a folder",
    ),
    ("search --text mug --kind vidoe", 1, "error: no kind 'vidoe': did you mean 'video'?"),
    (
        "search --text mug --kind video",
        0,
        "note: nothing found: no item is of kind video; the catalog has 6 of kind product",
    ),
    (
        'search --text mug --where "pric < 5"',
        1,
        (
            "error: where 'pric < 5': no field 'pric': did you mean price? (character 1); write a "
            "condition over item_id, kind, title, description, category, tags, creator, created_at, "
            "price, attributes, language, row_key, duplicate_of, transcript, screen_text, spoken_language, "
            "label, label_score, text, index_key and attributes.NAME"
        ),
    ),
    (
        'search --text mug --where "price < "',
        1,
        (
            "error: where 'price < ': this is no condition (character 7); write a condition over "
            "item_id, kind, title, description, category, tags, creator, created_at, price, attributes, "
            "language, row_key, duplicate_of, transcript, screen_text, spoken_language, label, label_score, "
            "text, index_key and attributes.NAME"
        ),
    ),
    (
        "search --text mug --where \"attributes.color = 'red'\"",
        1,
        ("error: where \"attributes.color = 'red'\": no item has an attribute 'color': did you mean 'colour'?"),
    ),
    (
        'search --text mug --where "price < 1"',
        0,
        "note: nothing found: none of the 6 items meets --where 'price < 1': loosen it",
    ),
    (
        "search --text mug --space txt",
        1,
        ("error: space 'txt' is not in the published catalog (did you mean 'text'?): it has image, text"),
    ),
    (
        "search --image nosuch.jpg",
        1,
        "error: image nosuch.jpg: there is no such file: give the path of one",
    ),
    ("search --image text.jpg", 1, "error: image text.jpg: not an image: looks like text: give another one"),
    ("search --video empty.mp4", 1, "error: video empty.mp4: 0 bytes: give another one"),
    ("search --item P0", 1, "error: item 'P0' is not in the published catalog (did you mean 'p0'?)"),
    (
        "search --queries q.txt",
        1,
        (
            "error: no query file at q.txt (did you mean 'q.jsonl'?): give JSONL with query_id and one "
            "of text, image, video, item_id"
        ),
    ),
    (
        "search --queries q.jsonl",
        1,
        ("error: 1 of 2 queries have no answer, more than max_failed 1.0% allows: 1 incomplete"),
    ),
    (
        "show p77 --no-html",
        1,
        (
            "error: no item 'p77' in workspace shop.workspace (ids are such as 'p0'): `coldstart status "
            "--failed --workspace shop.workspace` lists those that were skipped"
        ),
    ),
    (
        "match --item p9",
        1,
        ("error: item 'p9' is not in the published catalog (ids are such as 'p0'): see `coldstart show p9`"),
    ),
    (
        "recommend --user u9",
        1,
        (
            "error: user 'u9' (ids are such as 'u0') has no interactions, and so has no known item: give "
            "--history FILE with items of this workspace, or run `coldstart finetune behaviour` to score "
            "for the average user"
        ),
    ),
    (
        "recommend --history liked.json",
        1,
        ('error: the history is not a list: give [{"item_id": …, "timestamp": …, "event": …, "weight": …}]'),
    ),
    ("recommend --user u1 --seen maybe", 1, "error: seen 'maybe': use drop or keep"),
    (
        "run shpo.yaml",
        1,
        (
            "error: no pipeline file shpo.yaml (did you mean 'shop.yaml'?): give a path or one of "
            "aligned, demo, gpu, product, recommend, starter, video"
        ),
    ),
    (
        "run starterr",
        1,
        (
            "error: no pipeline file starterr (did you mean 'starter'?): give a path or one of aligned, "
            "demo, gpu, product, recommend, starter, video"
        ),
    ),
    (
        "run starter -w x.workspace",
        1,
        "error: {pipelines}/starter.yaml names no manifest: give one with --manifest FILE",
    ),
    (
        "run shop.yaml -m photos/itmes.jsonl -w x.workspace",
        1,
        (
            "error: no manifest at {here}/photos/itmes.jsonl (did you mean "
            "'{here}/photos/items.jsonl'?): give a .csv, .tsv, .txt, .jsonl, .json, .parquet, .xlsx, "
            ".xls, .ods or .xml file, plain or in a .gz or .zip or a folder of media, or of a dataset"
        ),
    ),
    (
        "run shop.yaml -m empty.csv -w x.workspace",
        1,
        "error: manifest {here}/empty.csv has no rows: give one item a row",
    ),
    (
        "run shop.yaml -m header.csv -w x.workspace",
        1,
        "error: manifest {here}/header.csv has no rows: give one item a row",
    ),
    (
        "run shop.yaml -m noid.csv -w x.workspace",
        1,
        (
            "error: header of {here}/noid.csv: no column item_id: it has colour, price; use `coldstart "
            "import`, rename one, or set `map: {item_id: COLUMN}` of the stage ingest"
        ),
    ),
    (
        "run typo.yaml -w x.workspace",
        1,
        "error: typo.yaml:13:14: text: encoder 'fakee:32' is unknown: nearest are fake",
    ),
    ("run key.yaml -w x.workspace", 1, "error: key.yaml:14:5: unknown setting text.imput (did you mean 'input'?)"),
    (
        "run kind.yaml -w x.workspace",
        1,
        (
            "error: kind.yaml: 2 faults: 8:12: stage 'image': unknown kind 'embedd' (did you mean "
            "'embed'?); 12:12: stage 'text': unknown kind 'embedd' (did you mean 'embed'?)"
        ),
    ),
    ("run type.yaml -w x.workspace", 1, "error: type.yaml:10:13: image.frames='many': give a whole number"),
    (
        "run tab.yaml -w x.workspace",
        1,
        ("error: tab.yaml:6:1: not YAML: found character '\\t' that cannot start any token: indent by spaces"),
    ),
    ("run twice.yaml -w x.workspace", 1, "error: twice.yaml:16:3: not YAML: key 'index' stands twice"),
    (
        "run shop.yaml --set txt.encoder=fake:8 -w x.workspace",
        1,
        "error: shop.yaml: 1 fault: --set txt.encoder=fake:8: no stage 'txt' (did you mean 'text'?)",
    ),
    (
        "run shop.yaml --set text.encodr=fake:8 -w x.workspace",
        1,
        "error: shop.yaml: 1 fault: unknown setting text.encodr (did you mean 'encoder'?)",
    ),
    (
        "run shop.yaml --set text.frames=0 -w x.workspace",
        1,
        "error: shop.yaml: 1 fault: text.frames=0: give one that is greater than or equal to 1",
    ),
    (
        "run shop.yaml --only txt -w x.workspace",
        1,
        ("error: no stage 'txt' in shop.yaml (did you mean 'text'?): it has ingest, image, text, index"),
    ),
    ("run shop.yaml --on h100x8 -w x.workspace", 1, "error: --on h100x8 needs an estimate: add --dry-run"),
    (
        "run shop.yaml -w /proc/x",
        1,
        ("error: cannot open workspace /proc/x: No such file or directory: give a folder that can be made and written"),
    ),
    ("check key.yaml", 1, "error: key.yaml has 1 fault: mend and check again"),
    (
        "embed --space clip --encoder startr",
        1,
        "error: clip: encoder 'startr' is unknown: nearest are starter, starter-clip",
    ),
    (
        "understand --part speach",
        1,
        (
            "error: no stage 'understand.speach' in the settings of workspace shop.workspace (did you "
            "mean 'understand.speech'?): it has ingest, image, text, index"
        ),
    ),
    (
        "finetune behaviour",
        1,
        (
            "error: align.behaviour: 3 users liked something and 0 items were liked by 5 or more "
            "(warm_min), and a fit needs 20 (min_users) and 20 (min_items); of 15 interactions 15 are "
            "with items whose content is known: bring more with `coldstart ingest --workspace "
            "shop.workspace --interactions FILE`"
        ),
    ),
    (
        "ingest",
        1,
        "error: nothing to ingest: give a MANIFEST, or a log: --interactions, --impressions or --outcomes FILE",
    ),
    (
        "ingest --interactions clicks.csv",
        1,
        (
            "error: clicks.csv: no column is known as user_id; it has who, what, when; name one with "
            "--columns user_id=COLUMN"
        ),
    ),
    (
        "ingest --interactions nosuch.csv",
        1,
        (
            "error: no file of interactions at nosuch.csv: give a .csv, .tsv, .txt, .jsonl, .json, "
            ".parquet, .xlsx, .xls, .ods or .xml file, plain or in a .gz or .zip"
        ),
    ),
    (
        "label --classes nosuch.yaml",
        1,
        ("error: label: no classes file {here}/nosuch.yaml: give a .yaml or .csv, or a text file of one class a line"),
    ),
    ("models pull whisper-bsae", 1, "error: no starter model is named 'whisper-bsae'; did you mean whisper-base?"),
    (
        "describe --generator startr",
        1,
        "error: describe.write: generator 'startr' is unknown: nearest are starter, starter-vlm",
    ),
    (
        "init --manifest photos/itmes.jsonl --out x.yaml",
        1,
        (
            "error: no manifest at {here}/photos/itmes.jsonl (did you mean "
            "'{here}/photos/items.jsonl'?): give a .csv, .tsv, .txt, .jsonl, .json, .parquet, .xlsx, "
            ".xls, .ods or .xml file, plain or in a .gz or .zip or a folder of media, or of a dataset"
        ),
    ),
    ("status -w nosuch", 1, "error: no workspace at nosuch: make one with `coldstart run PIPELINE --workspace nosuch`"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with its pipeline and workspace, and the same with a fault each."""
    folder = tmp_path_factory.mktemp("mistakes")
    entries = rows(folder / "photos", 6)
    for place, entry in enumerate(entries):
        entry.update(price=3 + place, kind="product", attributes={"colour": "red"})
    write_manifest(folder / "photos" / "items.jsonl", entries)
    shop = write_pipeline(folder / "shop.yaml", settings(Path("photos/items.jsonl"), workers=1, device="cpu"))
    text = shop.read_text("utf-8")
    for name, old, new in (
        ("typo", "encoder: fake:32\n    input: text", "encoder: fakee:32\n    input: text"),
        ("key", "input: text", "imput: text"),
        ("kind", "stage: embed", "stage: embedd"),
        ("type", "input: image", "frames: many"),
        ("tab", "  ingest: {}", "\tingest: {}"),
        ("twice", "  index: {}", "  index: {}\n  index: {}"),
    ):
        assert old in text
        (folder / f"{name}.yaml").write_text(text.replace(old, new), "utf-8")
    log = "".join(f"u{user},p{item},2026-01-0{1 + item}\n" for user in range(3) for item in range(5))
    for name, content in (
        ("empty.csv", ""),
        ("header.csv", "sku,name\n"),
        ("noid.csv", "colour,price\nred,3\nblue,3\n"),
        ("text.jpg", "no picture\n"),
        ("empty.mp4", ""),
        ("clicks.csv", "who,what,when\nu1,p0,2026-01-01\n"),
        ("liked.json", '{"item": "p0"}'),
        ("q.jsonl", '{"query_id": 1}\n{"query_id": 2, "text": "x"}\n'),
        ("good.csv", f"user_id,item_id,timestamp\n{log}"),
    ):
        (folder / name).write_text(content, "utf-8")
    (folder / "empty.workspace").mkdir()
    opened = coldstart.open(folder / "shop.workspace", create=True)
    opened.run(shop)
    opened.ingest_interactions(folder / "good.csv")
    coldstart.open(folder / "new.workspace", create=True).run(shop, only=["ingest"])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("command", "status", "message"), MISTAKES, ids=[command for command, _, _ in MISTAKES])
def test_a_mistake_is_named_with_its_next_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, status: int, message: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLDSTART_WORKSPACE", "shop.workspace")
    before = sorted(Path().iterdir())
    stored = coldstart.open("shop.workspace")._store.pipeline()
    done = cli(*shlex.split(command))
    wanted = message.replace("{here}", str(folder)).replace("{pipelines}", str(data_folder("pipelines")))
    assert (done.returncode, done.stderr.strip("\n")) == (status, wanted)
    assert sorted(Path().iterdir()) == before  # nothing is half made
    assert coldstart.open("shop.workspace")._store.pipeline() == stored
