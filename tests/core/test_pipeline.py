"""Pipeline files: packaged ones are sound, and every fault of a bad one is named at once."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from coldstart.core import pipeline, settings
from coldstart.core import stage as registry
from coldstart.core.pipeline import PipelineError, find, load
from coldstart.core.yaml_text import parse_yaml
from coldstart.errors import ColdstartError

KNOWN = "(known: align, behaviour, describe, embed, finetune, index, ingest, label, sids, understand)"
PACKAGED = settings.data_files("pipelines", "*.yaml")
GOOD = {"stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:8", "input": "text"}, "index": None}}


def faults(source: Any, overrides: tuple[str, ...] = (), **options: Any) -> list[str]:
    with pytest.raises(PipelineError) as caught:
        load(source, overrides, **options)
    assert all("\n" not in fault for fault in caught.value.faults)
    return caught.value.faults


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def make(content: str | bytes) -> Path:
        path = tmp_path / "pipeline.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def test_a_part_of_a_group_is_on_unless_it_is_false() -> None:
    stages = {"ingest": {}, "understand": {"speech": False, "screen": True, "shots": {"max_s": 60}}}
    loaded = load({"stages": stages}, ["understand.duplicates.policy=drop", "understand.safety=false"])
    names = ["fingerprint", "duplicates", "quality", "shots", "screen", "evidence"]
    assert [spec.name for spec in loaded.stages] == ["ingest", *(f"understand.{name}" for name in names)]
    assert loaded.stages[2].settings.policy == "drop"
    assert loaded.stages[4].settings.max_s == 60
    assert load({"stages": stages}, ["understand.speech.model=fake"]).stages[5].settings.model == "fake"
    assert loaded.before("understand.evidence", "understand.shots") == "understand.shots"
    assert loaded.before("understand.shots", "understand.evidence") is None


def test_faults_of_parts_are_named_with_their_place() -> None:
    parts = {"speach": {}, "shots": {"detector": "mine"}, "screen": {"fpss": 3}}
    known = ", ".join(registry.parts("understand"))
    assert faults({"stages": {"understand": parts, "clips": {"stage": "understand.shot"}}}) == [
        f"unknown part understand.speach (did you mean 'speech'?) (known: {known})",
        "understand.shots.detector='mine': give 'scenedetect' or 'transnetv2'",
        "unknown setting understand.screen.fpss (did you mean 'fps'?)",
        "stage 'clips': unknown kind 'understand.shot' (did you mean 'understand.shots'?)",
    ]
    assert faults({"stages": {"understand": "all"}}) == [
        "understand='all': give settings of its parts, such as `fingerprint: {}`"
    ]


def test_packaged_pipelines_are_found() -> None:
    assert list(PACKAGED) == ["aligned", "demo", "gpu", "product", "recommend", "starter", "video"]


DESCRIBE = ["describe.grounds", "describe.attributes", "describe.write", "describe.check"]
WRITES = {"demo": DESCRIBE, "gpu": DESCRIBE, "video": DESCRIBE[2:], "product": DESCRIBE}
"""Pipeline -> its stages that describe items."""


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_pipeline_loads_by_name_and_by_path(name: str) -> None:
    loaded = load(name)
    assert loaded == load(PACKAGED[name])
    kinds = [spec.kind for spec in loaded.stages]
    assert (kinds[0], kinds[-1]) == ("ingest", "index")
    parts = [f"understand.{part}" for part in registry.parts("understand")] if name in ("demo", "video") else []
    assert kinds[1 : 1 + len(parts)] == parts
    assert set(kinds[1 + len(parts) : -1]) <= {
        "embed",
        "align.text_image",
        "align.behaviour",
        "behaviour",
        *WRITES["product"],
    }
    assert [kind for kind in kinds if kind in WRITES["product"]] == WRITES.get(name, [])
    assert ("align.text_image" in kinds) == (name in ("aligned", "gpu"))
    assert ("align.behaviour" in kinds, "behaviour" in kinds) == ((True, True) if name == "recommend" else (False,) * 2)
    assert loaded.manifest is None or loaded.manifest.is_file()


def test_what_is_loaded_can_be_loaded_again_anywhere(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("manifest: items.jsonl\nmedia:\n  roots: [photos, /data]\nstages:\n  ingest: {}\n")
    first = load(path, ["ingest.map={title: name}", "engine.workers=3", "max_failed=0.5"])
    assert first.manifest == tmp_path / "items.jsonl"
    assert first.media.roots == (str(tmp_path / "photos"), "/data")
    assert (first.engine.workers, first.max_failed) == (3, 0.5)
    assert first.stages[0].settings.map == {"title": "name"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    again = load(first.raw)
    assert (again.manifest, again.media, again.engine, again.stages) == (
        first.manifest,
        first.media,
        first.engine,
        first.stages,
    )


def test_paths_from_the_command_line_are_relative_to_the_working_folder(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("media: {roots: [photos]}\nstages: {ingest: {}}\n")
    monkeypatch.chdir("/")
    loaded = load(path, manifest="m.csv", media_roots=["more", "~nobody-of-this-name/x"])
    assert loaded.manifest == Path("/m.csv")
    assert loaded.media.roots == (str(tmp_path / "photos"), "/more", "/~nobody-of-this-name/x")
    assert load({"stages": {"ingest": {}}}, media_roots=["more"]).media.roots == ("/more",)


def test_limits_are_those_that_the_file_states() -> None:
    assert load({**GOOD, "media": {"max_pixels": 5, "allowed_hosts": ["a.example"]}}).media.limits() == {
        "max_pixels": 5,
        "allowed_hosts": ("a.example",),
        "allowed_buckets": (),
        "allowed_schemes": (),
        "roots": None,
    }
    assert load(GOOD).media.with_folders([]).limits()["roots"] == ()
    named = load({**GOOD, "manifest": "/shop/items.jsonl", "media": {"roots": ["/more"]}}).media
    assert named.limits()["roots"] == ("/more", "/shop")
    assert named.with_folders(["/late", "/shop"]).limits()["roots"] == ("/more", "/shop", "/late")


def test_spaces_change_a_stage_or_come_before_the_index() -> None:
    loaded = load(GOOD, spaces={"clip": {"encoder": "fake:16"}, "text": {"encoder": "fake:4"}})
    assert [spec.name for spec in loaded.stages] == ["ingest", "text", "clip", "index"]
    assert loaded.stages[1].settings.encoder == "fake:4"
    assert loaded.stages[1].settings.input == "text"
    assert loaded.stages[2].settings.encoder == "fake:16"


def test_all_faults_are_named_at_once_with_the_nearest_name() -> None:
    bad = {
        "stage": {},
        5: 1,
        "max_failed": 2,
        "engine": {"workers": 0, "devce": "cpu"},
        "media": {"root": [], "roots": "/data"},
        "manifest": ["a", "b"],
        "stages": {
            "embd": {},
            "text": {"stage": "embed", "encder": "x", "frames": 0, "input": "sound"},
            "ingest": "items.csv",
            "A b": {},
        },
    }
    assert faults(bad, ("txt.frames=2", "text.frames=[1", "frames")) == [
        "--set txt.frames=2: no stage 'txt' (did you mean 'text'?)",
        "--set text.frames=[1: not YAML: expected ',' or ']', but got '<stream end>'",
        "--set frames: give stage.key=value",
        "manifest=['a', 'b']: give a path",
        "unknown setting 'stage' (did you mean 'stages'?)",
        "unknown setting 5",
        "media.roots='/data': give a list, such as [a, b]",
        "unknown setting media.root (did you mean 'roots'?)",
        "engine.workers=0: give one that is greater than or equal to 1",
        "unknown setting engine.devce (did you mean 'device'?)",
        "max_failed=2: give a share between 0 and 1",
        "stage 'embd': unknown kind 'embd' (did you mean 'embed'?)",
        "text.encoder is missing",
        "text.input='sound': give 'image' or 'text'",
        "text.frames=0: give one that is greater than or equal to 1",
        "unknown setting text.encder (did you mean 'encoder'?)",
        "ingest='items.csv': give settings, such as `map: value`",
        "stage 'A b': a name is lower-case letters, digits and _",
        "stage of kind 'ingest' is not the first: put it at the top",
    ]


@pytest.mark.parametrize(
    ("name", "kind", "taken"),
    [
        ("full_text", "embed", "the ranking by words in searches"),
        ("labels", "embed", "the labels of records beside spaces in fits on behaviour"),
        ("match", "label", "the fitted weights of `coldstart match`"),
        ("interactions", "embed", "the interactions in `coldstart status`"),
    ],
)
def test_a_name_that_results_have_already_is_refused(name: str, kind: str, taken: str) -> None:
    stages = {"ingest": {}, name: {"stage": kind, "encoder": "fake", "input": "text"}, "index": {}}
    with pytest.raises(PipelineError) as caught:
        load({"stages": stages})
    assert caught.value.faults == [
        f"stage {name!r}: that is the name of {taken}: call it something else, such as {name}_1"
    ]


def test_a_stage_that_is_no_space_may_have_the_name_of_a_ranking() -> None:
    stages = {"ingest": {}, "labels": {"stage": "label", "classes": "x.yaml"}}
    assert [spec.name for spec in load({"stages": stages}).stages] == ["ingest", "labels"]


def test_the_message_counts_and_joins_the_faults() -> None:
    with pytest.raises(PipelineError) as caught:
        load({"stages": {"ingest": {}}, "max_failed": True, "x": 1})
    assert str(caught.value) == (
        "pipeline: 2 faults: unknown setting 'x'; max_failed=True: give a share between 0 and 1"
    )


@pytest.mark.parametrize(
    ("stages", "fault"),
    [
        (None, "`stages:` is missing or empty"),
        ({}, "`stages:` is missing or empty"),
        (["ingest"], "stages=['ingest']: give the name of each stage with its settings, such as `ingest: {}`"),
        ("ingest", "stages='ingest': give the name of each stage with its settings, such as `ingest: {}`"),
        ({"ingest": [["map", {}]]}, "ingest=[['map', {}]]: give settings, such as `map: value`"),
        ({"ingest": {"map": "x" * 99}}, f"ingest.map='{'x' * 56}...: give pairs, such as {{a: b}}"),
        ({"ingest": {"map": {"title": 5}}}, "ingest.map.title=5: give a text, or: give a list, such as [a, b]"),
        ({"ingest": {5: 1}}, "ingest.5=5: Keys should be strings"),
        (
            {"x": {"stage": ["embed"]}},
            "stage 'x': unknown kind ['embed'] (did you mean 'embed'?)",
        ),
        (
            {"x": {"stage": "../embed"}},
            "stage 'x': unknown kind '../embed' (did you mean 'embed'?)",
        ),
        ({"index": {}, "again": {"stage": "index"}}, "2 stages of kind 'index': one is allowed"),
        ({"index": {}, "ingest": {}}, "stage of kind 'ingest' is not the first: put it at the top"),
    ],
)
def test_faulty_stages(stages: Any, fault: str) -> None:
    assert faults({"stages": stages}) == [fault]
    assert faults({"stages": stages}, ("engine.workers=1",)) == [fault]


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"media": [1]}, "media=[1]: give settings, such as `roots: value`"),
        ({"media": []}, "media=[]: give settings, such as `roots: value`"),
        ({"media": {"roots": [5]}}, "media.roots.0=5: give a text"),
        ({"media": {"roots": None}}, "media.roots=None: give a list, such as [a, b]"),
        ({"media": {"roots": "/data"}}, "media.roots='/data': give a list, such as [a, b]"),
        ({"media": {"max_pixels": 0}}, "media.max_pixels=0: give one that is greater than 0"),
        ({"engine": 0}, "engine=0: give settings, such as `name: value`"),
        ({"engine": {"name": "spark"}}, "engine.name='spark': give 'local' or 'ray'"),
        ({"engine": "spark"}, "engine.name='spark': give 'local' or 'ray'"),
        ({"manifest": False}, "manifest=False: give a path"),
        ({"max_failed": "1%"}, "max_failed='1%': give a share between 0 and 1"),
        ({"max_failed": float("nan")}, "max_failed=nan: give a share between 0 and 1"),
    ],
)
def test_faulty_sections(section: dict[str, Any], fault: str) -> None:
    assert faults({**GOOD, **section}) == [fault]
    assert faults({**GOOD, **section}, media_roots=["/more"], spaces={"clip": {"encoder": "fake"}}) == [fault]


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("=5", "--set =5: give stage.key=value"),
        ("text.=5", "--set text.=5: give stage.key=value"),
        (".frames=5", "--set .frames=5: give stage.key=value"),
        ("text=5", "--set text=5: 'text' is a stage: give text.key=value"),
        ("text.frames=@", "--set text.frames=@: not YAML: found character '@' that cannot start any token"),
        (
            "text.frames=!!python/object/apply:os.system ['id']",
            "--set text.frames=!!python/object/apply:os.system ['id']: not YAML: "
            "a tag such as !name is not allowed: write plain values",
        ),
        (
            "text.frames=2024-02-30",
            "text.frames='2024-02-30': give a whole number",
        ),
        ("text.frames={a: 1, a: 2}", "--set text.frames={a: 1, a: 2}: not YAML: key 'a' stands twice"),
        ("text.encoder=", "text.encoder=None: give a text"),
        ("text.frame=3", "unknown setting text.frame (did you mean 'frames'?)"),
        ("text.frames.more=3", "text.frames={'more': 3}: give a whole number"),
        ("engine=5", "engine=5: give settings, such as `name: value`"),
        ("stages=5", "stages=5: give the name of each stage with its settings, such as `ingest: {}`"),
        ("workers=5", "unknown setting 'workers'"),
    ],
)
def test_faulty_overrides(override: str, fault: str) -> None:
    assert faults(GOOD, (override,)) == [fault]


def test_overrides_reach_stages_that_state_no_settings() -> None:
    loaded = load(GOOD, ("index.index_type=exact", "text.encoder=openai:m@http://x/?a=b"))
    assert loaded.stages[2].settings.index_type == "exact"
    assert loaded.stages[1].settings.encoder == "openai:m@http://x/?a=b"
    assert GOOD["stages"]["index"] is None
    assert load(GOOD, ("ingest.map.title=name", "ingest.map.item_id=sku")).stages[0].settings.map == {
        "title": "name",
        "item_id": "sku",
    }


def test_overrides_of_what_is_no_mapping_leave_its_fault() -> None:
    assert faults({"stages": {"text": "x"}}, ("text.frames=2",)) == [f"stage 'text': unknown kind 'text' {KNOWN}"]
    assert faults({**GOOD, "engine": 3}, ("engine.workers=2",)) == ["engine=3: give settings, such as `name: value`"]


def test_the_engine_may_be_named_alone() -> None:
    engine = load({**GOOD, "engine": "ray"}, ["engine.ray.address=auto"]).engine
    assert (engine.name, engine.ray.address) == ("ray", "auto")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", ": 1 fault: it holds no settings: `stages:` is missing"),
        ("- ingest", ": 1 fault: it holds no settings: `stages:` is missing"),
        (
            "stages:\n\tingest: {}",
            ":2:1: not YAML: found character '\\t' that cannot start any token: indent by spaces",
        ),
        ("stages:\n  ingest: {}\nstages:\n  ingest: {}\n", ":3:1: not YAML: key 'stages' stands twice"),
        (
            "stages:\n  ingest: {}\n  ingest: {map: {}, map: {}}\n",
            ": 2 faults: 3:3: not YAML: key 'ingest' stands twice; 3:21: not YAML: key 'map' stands twice",
        ),
        ("a: \0", ": 1 fault: not YAML: unacceptable character #x0000: special characters are not allowed"),
        ("a: 1\n---\nb: 2", ":2:1: not YAML: but found another document"),
        ("[" * 9999, ": 1 fault: not YAML: maximum recursion depth exceeded"),
        ("[" * 150 + "]" * 150, ":1:102: not YAML: it is nested more than 100 deep"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{name}: &{name} [{', '.join([f'*{former}'] * 9)}]\n" for former, name in pairwise("abcdefg")),
            ":6:4: not YAML: it stands for more than 200,000 values: use fewer aliases",
        ),
        ("a: &a {b: *a}", ":1:4: not YAML: it stands for more than 200,000 values: use fewer aliases"),
    ],
)
def test_a_file_that_is_no_pipeline(write: Any, content: str, fault: str) -> None:
    path = write(content)
    with pytest.raises(PipelineError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}{fault}")


def test_faults_of_a_file_name_line_and_column(write: Any) -> None:
    path = write(
        "max_failed: 2\n"
        "stages:\n"
        "  ingest: {mapp: {}}\n"
        "  text:\n"
        "    stage: embed\n"
        "    input: words\n"
        "  image: {stage: embd}\n"
        "  align:\n"
        "    behaviour: {spaces: [text], warm_min: x}\n"
    )
    with pytest.raises(PipelineError) as caught:
        load(path, ["text.frames=0"])
    assert [(fault.place and str(fault.place), str(fault).partition(":")[0]) for fault in caught.value.faults] == [
        ("1:13", "max_failed=2"),
        ("3:12", "unknown setting ingest.mapp (did you mean 'map'?)"),
        ("4:3", "text.encoder is missing"),
        ("6:12", "text.input='words'"),
        (None, "text.frames=0"),  # of the command line
        ("7:18", "stage 'image'"),
        ("9:43", "align.behaviour.warm_min='x'"),
    ]
    assert str(caught.value).startswith(f"{path}: 7 faults: 1:13: max_failed=2: give a share between 0 and 1; 3:12: ")
    with pytest.raises(PipelineError) as single:
        load(write("stages:\n  ingest:\n    mapp: {}\n"))
    assert str(single.value) == f"{path}:3:5: unknown setting ingest.mapp (did you mean 'map'?)"
    assert single.value.faults[0].to_dict() == {
        "setting": "ingest.mapp",
        "line": 3,
        "column": 5,
        "fault": "unknown setting ingest.mapp (did you mean 'map'?)",
    }


def test_a_file_that_is_not_utf8(write: Any) -> None:
    path = write("stages: é".encode("latin-1"))
    with pytest.raises(ColdstartError) as caught:
        load(path)
    assert str(caught.value) == f"pipeline {path} is not UTF-8 at byte 8: save it as UTF-8"
    assert load(write("\ufeffstages: {ingest: {}}")).stages[0].name == "ingest"


def test_merge_keys_of_yaml_work(write: Any) -> None:
    path = write(
        "stages:\n"
        "  a: &a {stage: embed, encoder: fake, frames: 2}\n"
        "  b: &b {<<: *a, frames: 3}\n"
        "  c: {<<: *b, frames: 4}\n"
    )
    assert [spec.settings.frames for spec in load(path).stages] == [2, 3, 4]


def test_a_name_that_is_no_pipeline() -> None:
    with pytest.raises(ColdstartError) as caught:
        find("starer")
    assert str(caught.value) == (
        "no pipeline file starer (did you mean 'starter'?): give a path or one of aligned, demo, gpu, product, "
        "recommend, starter, video"
    )


def test_settings_do_not_change_after_they_are_read() -> None:
    loaded = load(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        loaded.engine.workers = 7
    with pytest.raises(AttributeError):
        loaded.max_failed = 1.0  # type: ignore[misc]


def test_packaged_files_open_with_the_command_that_runs_them() -> None:
    for path in PACKAGED.values():
        text = path.read_text("utf-8")
        assert text.startswith(f"# coldstart run {path.stem} --workspace ")
        assert set(yaml.safe_load(text)) <= set(pipeline.Pipeline.__dataclass_fields__)


def test_a_prompt_path_is_relative_to_the_pipeline_file(write: Any) -> None:
    path = write("stages: {text: {stage: embed, encoder: fake, input: text, prompt: own.md}, index: {}}")
    assert pipeline.load(path).stages[0].settings.prompt == str(path.parent / "own.md")


def test_values_of_a_text_that_is_parsed_twice_are_apart() -> None:
    text = "words: [a, b]\nrules: {one: {score: 1}}"
    first: Any = parse_yaml(text)
    first["words"].append("c")
    first["rules"]["one"]["score"] = 2
    assert parse_yaml(text) == {"words": ["a", "b"], "rules": {"one": {"score": 1}}}


def test_stages_are_found_by_name_with_those_before_them() -> None:
    spaces = {
        "image": {"stage": "embed", "encoder": "fake:8"},
        "text": {"stage": "embed", "encoder": "fake:8", "input": "text"},
    }
    pipeline = load({"stages": {"ingest": {}, **spaces}})
    assert pipeline.stage("image").settings.input == "image"
    assert [spec.name for spec in pipeline.earlier("text")] == ["ingest", "image"]
    assert pipeline.earlier("ingest") == ()
    assert (pipeline.before("text", "embed"), pipeline.before("image", "embed")) == ("image", None)
    for find_stage in (pipeline.stage, pipeline.earlier):
        with pytest.raises(KeyError, match="nowhere"):
            find_stage("nowhere")


@pytest.mark.slow
def test_modules_of_stages_load_no_torch() -> None:
    code = (
        "import sys\nfrom coldstart.core import stage\n"
        "for kind in stage.kinds(): stage.stage_module(kind)\n"
        "print(*sorted({'torch', 'transformers', 'xgrammar'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
