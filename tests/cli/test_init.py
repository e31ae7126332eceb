"""`coldstart init` writes a pipeline that loads and runs, and `coldstart schema` describes pipelines for editors."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from catalogue import coldstart as cli

import coldstart
from coldstart.cli.status import _languages
from coldstart.core import pipeline as pipelines
from coldstart.core.pipeline_schema import field_docs, pipeline_schema
from coldstart.core.sections import Engine
from coldstart.core.settings import data_files
from coldstart.core.yaml_text import parse_yaml
from coldstart.ingest.contents import Contents, read_contents
from coldstart.ingest.first_pipeline import pipeline_text

SHOP = "sku;name;Beschreibung;Preis;Farbe\n007;Rote Tasse;Tasse aus Ton, sehr schön;12,90;rot\n008;Teller;;4,00;blau\n"


def _contents(**having: int) -> Contents:
    return Contents(Path("/shop/items.csv"), {"map": {}}, 10, Counter(having))


@pytest.mark.parametrize(
    ("contents", "interactions", "stages"),
    [
        (None, None, ["ingest", "image", "clip", "text", "index"]),
        (_contents(titles=10), None, ["ingest", "text", "index"]),
        (_contents(pictures=9, titles=10, categories=3), None, ["ingest", "image", "clip", "text", "index"]),
        (_contents(pictures=9), None, ["ingest", "image", "clip", "index"]),
        (_contents(titles=9), Path("clicks.csv"), ["ingest", "text", "align.behaviour", "behaviour", "index"]),
        (
            _contents(videos=9),
            None,
            [
                "ingest",
                *(f"understand.{part}" for part in ("fingerprint", "duplicates", "quality", "shots", "speech")),
                *(f"understand.{part}" for part in ("screen", "evidence", "safety")),
                *("image", "clip", "text", "index"),
            ],
        ),
        (Contents(Path("/shop/x.csv"), {"map": {"title": ["a b", "c"]}, "id_from": ["u"]}, 1), None, None),
    ],
)
def test_a_first_pipeline_loads_and_explains_every_setting(
    contents: Contents | None, interactions: Path | None, stages: list[str] | None, tmp_path: Path
) -> None:
    text = pipeline_text(contents, place=tmp_path, interactions=interactions)
    file = tmp_path / "pipeline.yaml"
    file.write_text(text, "utf-8")
    loaded = pipelines.load(file)
    if stages is not None:
        assert [spec.name for spec in loaded.stages] == stages
    for line in text.splitlines():
        if re.match(r" *[a-z_0-9]+: [^#\s]", line) and not re.match(r"      \S", line):
            assert "  # " in line, line
    # what stands in comments is valid, too
    used = re.sub(r"^(  )# (?=( |[a-z]+:))", r"\1", text, flags=re.MULTILINE)
    used = re.sub(
        r"^  with a log.*\n", "", re.sub(r"^(    )# (?=[a-z_]+: )", r"\1", used, flags=re.MULTILINE), flags=re.M
    )
    file.write_text(used, "utf-8")
    assert len(pipelines.load(file).stages) >= len(loaded.stages)


def test_what_a_catalogue_has_is_counted(tmp_path: Path) -> None:
    rows = [
        {"item_id": "a", "title": "a mug for the kitchen", "image": "a.jpg", "price": 3, "category": "Mugs"},
        {"item_id": "b", "title": "how to boil water", "media": [{"role": "video", "uri": "https://cdn.shop/b.mp4"}]},
    ]
    manifest = tmp_path / "items.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = read_contents(manifest)
    counts = {"pictures": 1, "videos": 1, "titles": 2, "descriptions": 0, "categories": 1, "prices": 1}
    assert dict(found.having) == counts
    assert (found.rows, dict(found.hosts), found.is_english) == (2, {"cdn.shop": 1}, None)


def test_a_catalogue_in_other_languages_has_a_multilingual_encoder(tmp_path: Path) -> None:
    for languages, english, encoder in (
        ({"en": 91, "de": 9, "und": 500}, True, "starter"),
        ({"en": 90, "de": 10}, False, "starter:multilingual"),
        ({"de": 9, "und": 50}, None, "starter"),
    ):
        contents = _contents(titles=10)
        contents.languages.update(languages)
        assert contents.is_english is english
        settings = parse_yaml(pipeline_text(contents, place=tmp_path))
        assert settings["stages"]["text"]["encoder"] == encoder


GERMAN = "sku;name\n" + "".join(f"{place};Damen Schuhe schwarz Nr. {place}\n" for place in range(12))


@pytest.mark.slow
def test_import_and_doctor_advise_the_encoder_of_other_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.csv").write_text(GERMAN, "utf-8")
    done = cli("import", "shop.csv", "--yes", "-w", "w")
    assert done.returncode == 0, done.stderr
    expected = "German 100 % of the items whose language shows: `starter` reads English"
    command = "coldstart run --workspace w --set text.encoder=starter:multilingual"
    assert f"languages: {expected}" in done.stdout and command in done.stdout
    opened = coldstart.open("w")
    assert opened.languages() == {"de": 12}
    assert _languages("w")["languages of the items"].startswith(expected)  # of `coldstart doctor`
    assert _languages("nowhere") == {}
    assert json.loads(cli("status", "-w", "w", "--json").stdout)["languages"] == {"de": 12}
    assert "languages:" not in cli("status", "-w", "w").stdout  # one alone says nothing
    Path("shop.csv").write_text(GERMAN + "90;Black shoes for men\n91;Avocado\n", "utf-8")
    opened.run("starter", manifest="shop.csv", only=["ingest"], overrides=["text.encoder=starter:multilingual"])
    assert "languages: German 92 %, English 8 % of the 13 items whose language shows" in cli("status", "-w", "w").stdout
    assert opened.encoder_advice() is None  # it is chosen
    assert _languages("w")["languages of the items"] == "German 92 %, English 8 %"


@pytest.mark.slow
def test_init_writes_a_file_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.csv").write_text(SHOP, "utf-8")
    done = cli("init", "--manifest", "shop.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == (
        "written: pipeline.yaml; next: coldstart run pipeline.yaml --workspace shop.workspace"
    )
    settings = parse_yaml(Path("pipeline.yaml").read_text("utf-8"))
    assert settings["manifest"] == "shop.csv"
    assert settings["stages"]["ingest"]["map"] == {
        "item_id": "sku",
        "title": "name",
        "description": "Beschreibung",
        "price": "Preis",
    }
    assert list(jsonschema.Draft202012Validator(pipeline_schema()).iter_errors(settings)) == []
    ran = cli("run", "pipeline.yaml", "-w", "w", "--set", "text.encoder=fake:8", "--set", "engine.workers=1")
    assert ran.returncode == 0, ran.stderr
    hits = json.loads(cli("search", "--text", "Tasse", "-w", "w", "--json").stdout)["hits"]
    assert (hits[0]["item_id"], hits[0]["price"]) == ("007", 12.9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "pipeline.yaml is there already: name another file with --out, or remove it"),
        (("--out", "my.json"), "--out my.json: a pipeline is YAML: give a name that ends in .yaml"),
        (("nosuch",), "no folder nosuch: make it, or name another one"),
        (("clicks.csv",), "clicks.csv is a file: give a catalogue as --manifest clicks.csv"),
        (
            ("--out", "x.yaml", "--interactions", "click.csv"),
            "no file of interactions at click.csv (did you mean 'clicks.csv'?): give one, or leave --interactions out",
        ),
    ],
)
def test_init_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pipeline.yaml").write_text("mine", "utf-8")
    Path("clicks.csv").touch()
    done = cli("init", *arguments)
    assert (done.returncode, done.stderr) == (1, f"error: {message}\n")
    assert Path("pipeline.yaml").read_text("utf-8") == "mine"


# -- schema


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = pipeline_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.slow
def test_packaged_pipelines_are_valid(validator: Any) -> None:
    for name, file in data_files("pipelines", "*.yaml").items():
        assert [error.message for error in validator.iter_errors(parse_yaml(file.read_text("utf-8")))] == [], name


@pytest.mark.parametrize(
    "text",
    [
        "stages: {text: {stage: embd, encoder: fake}}",
        "stages: {text: {stage: embed, encoder: fake, imput: text}}",
        "stages: {text: {stage: embed, encoder: fake, input: words}}",
        "stages: {text: {stage: embed, encoder: fake, frames: many}}",
        "stages: {text: {stage: embed}}",
        "stages: {text: {encoder: fake}}",
        "stages: {ingest: {mapp: {}}}",
        "stages: {understand: {speach: {}}}",
        "stages: {understand: {speech: {modell: x}}}",
        "stages: {index: {stage: embed, input: text}}",
        "stages: {Index: {}}",
        "stages: {}",
        "manifets: x\nstages: {ingest: {}}",
        "max_failed: 2\nstages: {ingest: {}}",
        "media: {root: []}\nstages: {ingest: {}}",
        "engine: {worker: 2}\nstages: {ingest: {}}",
        "engine: rai\nstages: {ingest: {}}",
        "attributes: {default: {colour: {visuall: true}}}\nstages: {ingest: {}}",
    ],
)
def test_typos_are_refused_by_the_schema_as_by_the_reader(validator: Any, text: str) -> None:
    settings = parse_yaml(text)
    assert not validator.is_valid(settings)
    with pytest.raises(pipelines.PipelineError):
        pipelines.load(settings)


def test_settings_are_explained() -> None:
    schema = pipeline_schema()
    assert schema["$defs"]["engine section"]["properties"]["device"]["description"] == field_docs(Engine)["device"]
    assert schema["$defs"]["embed"]["properties"]["frames"]["description"] == "Frames sampled from each video."
    assert schema["$defs"]["embed"]["description"] == "Settings of one space."


@pytest.mark.slow
def test_the_command_prints_or_writes_it(tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    assert json.loads(cli("schema").stdout) == pipeline_schema()
    assert cli("schema", "--out", out).stdout.startswith(f"written: {out}; first line of a pipeline: # yaml-language-")
    assert json.loads(out.read_text("utf-8")) == json.loads(cli("schema", "--json").stdout)["schema"]
