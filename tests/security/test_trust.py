"""A workspace is data: places that its stored settings name count only where this user has given them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import catalogue
import pytest

import coldstart
from coldstart.core import trust
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits

SAFE = {
    "stages": {
        "ingest": {},
        "image": {"stage": "embed", "encoder": "starter", "input": "image"},
        "text": {"stage": "embed", "encoder": "starter:levels", "prompt": "item_text"},
        "more": {"stage": "embed", "encoder": "starter-clip"},
        "aligned": {"stage": "embed", "encoder": "align:text_image"},
        "describe": {"write": {"generator": "finetune:describe"}},
        "understand": {"speech": {"model": "starter"}, "safety": {"policy": "safety"}},
        "index": {},
    },
    "attributes": {"default": {"colour": {"values": ["/red", "https://blue"]}}},
    "engine": {"name": "local", "device": "cpu"},
    "max_failed": 0.5,
}


def cli(*arguments: object) -> tuple[int, str, str]:
    done = catalogue.coldstart(*arguments)
    return done.returncode, done.stdout, done.stderr


def with_stage(**stages: Any) -> dict[str, Any]:
    return {"stages": {**SAFE["stages"], **stages}}  # type: ignore[dict-item]


def test_names_of_packaged_models_are_no_places() -> None:
    assert trust.places(SAFE) == []


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"manifest": "items.jsonl"}, ("manifest", "items.jsonl")),
        ({"media": {"roots": ["/photos"]}}, ("media.roots", "/photos")),
        ({"media": {"allowed_hosts": ["img.example"]}}, ("media.allowed_hosts", "img.example")),
        ({"media": {"allowed_buckets": ["s3://b"]}}, ("media.allowed_buckets", "s3://b")),
        ({"media": {"allowed_schemes": ["s3"]}}, ("media.allowed_schemes", "s3")),
        ({"engine": {"ray": {"address": "auto"}}}, ("engine.ray.address", "auto")),
        (
            with_stage(describe={"write": {"generator": "openai:m@http://evil.example/v1"}}),
            ("describe.write.generator", "openai:m@http://evil.example/v1"),
        ),
        (
            with_stage(describe={"write": {"options": {"key_env": "AWS_SECRET_ACCESS_KEY"}}}),
            ("describe.write.options.key_env", "AWS_SECRET_ACCESS_KEY"),
        ),
        (with_stage(text={"stage": "embed", "encoder": "hf:/models/x"}), ("text.encoder", "hf:/models/x")),
        (with_stage(text={"encoder": "open_clip:local-dir:x"}), ("text.encoder", "open_clip:local-dir:x")),
        (with_stage(text={"encoder": "sentence-transformers:../x"}), ("text.encoder", "sentence-transformers:../x")),
        (with_stage(text={"encoder": "align:C:\\heads"}), ("text.encoder", "align:C:\\heads")),
        (with_stage(text={"encoder": "sentence-transformers:m"}), ("text.encoder", "sentence-transformers:m")),
        (with_stage(text={"encoder": "Sentence_Transformers:m"}), ("text.encoder", "Sentence_Transformers:m")),
        (with_stage(text={"encoder": "open_clip:ViT-B-32/openai"}), ("text.encoder", "open_clip:ViT-B-32/openai")),
        (with_stage(text={"encoder": "open_clip:hf-hub:org/m"}), ("text.encoder", "open_clip:hf-hub:org/m")),
        (with_stage(text={"encoder": "another:m"}), ("text.encoder", "another:m")),
        (with_stage(describe={"write": {"generator": "hf:org/m"}}), ("describe.write.generator", "hf:org/m")),
        (with_stage(describe={"write": {"generator": "vllm:org/m"}}), ("describe.write.generator", "vllm:org/m")),
        (with_stage(align={"text_image": {"text": "open_clip:a/b"}}), ("align.text_image.text", "open_clip:a/b")),
        (with_stage(understand={"speech": {"model": "large-v3"}}), ("understand.speech.model", "large-v3")),
        (with_stage(text={"prompt": "own.md"}), ("text.prompt", "own.md")),
        (with_stage(label={"classes": "/home/me/classes.txt"}), ("label.classes", "/home/me/classes.txt")),
        (
            with_stage(understand={"safety": {"policy": "/x/policy.yaml"}}),
            ("understand.safety.policy", "/x/policy.yaml"),
        ),
        (with_stage(align={"text_image": {"start": "~/heads"}}), ("align.text_image.start", "~/heads")),
    ],
)
def test_each_kind_of_place_is_found(settings: dict[str, Any], place: tuple[str, str]) -> None:
    assert trust.places(settings) == [place]


def test_a_fit_of_a_name_that_is_a_folder_here_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not trust.is_place("align:org/name")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert trust.is_place("align:org/name")


def test_every_encoder_and_generator_is_known_to_be_packaged_or_of_a_hub() -> None:
    from coldstart import encoders, generators

    known = {name.replace("_", "-") for name in (*encoders.known(), *generators.known())}
    assert known | {"finetune"} == {*trust._OWN_MODELS, *trust._HUB_MODELS}


def test_a_file_of_classes_is_a_place_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_rsa").write_text("secret")
    assert trust.places(with_stage(label={"classes": ".ssh/id_rsa"})) == [("label.classes", ".ssh/id_rsa")]


def test_files_of_the_package_are_no_places() -> None:
    from coldstart.core.settings import data_files

    assert not trust.is_place(str(data_files("policies", "*.yaml")["safety"]))
    assert trust.places(with_stage(label={"classes": "package:sample/classes.yaml"})) == []
    for outside in ("package:/home/me/notes", "package:../notes.yaml", "package:sample/../../notes"):
        assert trust.places(with_stage(label={"classes": outside})) == [("label.classes", outside)]
    assert trust.is_place(str(data_files("policies", "*.yaml")["safety"].parent / ".." / ".." / "x.yaml"))


# -- what is remembered


def test_places_are_remembered_for_one_workspace(tmp_path: Path) -> None:
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    trust.remember(one, [("manifest", "a"), ("media.roots", "/b")])
    trust.remember(one, [("manifest", "c")])
    assert trust.remembered(one) == {("manifest", "a"), ("media.roots", "/b"), ("manifest", "c")}
    assert trust.remembered(f"{other}/../one/") == trust.remembered(one)
    assert trust.remembered(other) == frozenset()


def test_a_copy_is_known_by_the_mark_in_it(tmp_path: Path) -> None:
    own, copy, other = (tmp_path / name for name in ("own", "copy", "other"))
    own.mkdir()
    trust.remember(str(own), [("manifest", "a")])
    shutil.copytree(own, copy)
    assert trust.remembered(str(copy)) == {("manifest", "a")}
    other.mkdir()
    (other / trust.MARK).write_text("0" * 32)
    assert trust.remembered(str(other)) == frozenset()
    (other / trust.MARK).write_text("../../../planted")
    assert trust.remembered(str(other)) == frozenset()


def test_without_a_folder_of_its_own_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    trust.remember("w", [("manifest", "a")])
    assert trust.remembered("w") == frozenset()


def test_a_name_that_is_no_utf8_is_remembered(tmp_path: Path) -> None:
    workspace = f"{tmp_path}/\udcffz"
    trust.remember(workspace, [("manifest", "\udcff.jsonl")])
    assert trust.remembered(workspace) == {("manifest", "\udcff.jsonl")}


# -- a workspace of this user, and the same one as a stranger's


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A workspace of this user, with photos in a folder of their own."""
    entries = catalogue.rows(tmp_path / "photos", 4)
    manifest = catalogue.write_manifest(tmp_path / "photos" / "items.jsonl", entries)
    file = catalogue.write_pipeline(tmp_path / "shop.yaml", catalogue.settings(manifest))
    status, _, errors = cli("run", file, "--workspace", tmp_path / "w")
    assert status == 0, errors
    return tmp_path / "w"


@pytest.fixture
def strange(shop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The same workspace where this user has given nothing."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another-user"))
    return shop


def message(workspace: Path, place: str, how: str = "") -> str:
    return (
        f"workspace {workspace}: its stored settings name {place}, which counts only when given: name the "
        f"pipeline{how}, or let all count with `coldstart status --workspace {workspace} --trust`"
    )


@pytest.mark.slow
def test_the_workspace_of_this_user_asks_nothing(shop: Path, tmp_path: Path) -> None:
    for command in (
        ("run",), ("status",), ("search", "--text", "article 1"), ("show", "p1", "--out", tmp_path / "p1.html")
    ):  # fmt: skip
        status, out, errors = cli(*command, "--workspace", shop)
        assert status == 0, errors
        assert "counts only when given" not in out + errors
    assert "data:image/jpeg" in (tmp_path / "p1.html").read_text()
    assert "data:image/jpeg" in coldstart.open(shop).item("p1")._repr_html_()


@pytest.mark.slow
def test_a_strange_workspace_is_searched_and_shows_no_media(strange: Path, tmp_path: Path) -> None:
    status, out, errors = cli("search", "--text", "article 1", "--workspace", strange)
    assert (status, errors) == (0, "") and "p1" in out
    card = tmp_path / "p1.html"
    status, out, errors = cli("show", "p1", "--workspace", strange, "--out", card)
    assert status == 0, errors
    shown = f"manifest='{strange.parent / 'photos' / 'items.jsonl'}'"
    wanted = message(strange, f"manifest={trust_value(shown)}", ", --manifest")
    assert f"note: {wanted}" in " ".join(out.split("\n"))
    assert "data:image" not in card.read_text() and "outside media roots" in card.read_text()
    opened = coldstart.open(strange)
    for page in (opened.item("p1"), opened.items()[0], opened.search(item="p1"), opened.dossier("p1")):
        assert "data:image" not in page._repr_html_()


def trust_value(shown: str) -> str:
    from coldstart.core.settings import show_value

    return show_value(shown.partition("'")[2].rstrip("'"))


@pytest.mark.slow
def test_a_strange_workspace_runs_only_with_what_is_given(strange: Path) -> None:
    status, _, errors = cli("run", "--workspace", strange)
    assert status == 1
    manifest = strange.parent / "photos" / "items.jsonl"
    assert message(strange, f"manifest={trust_value(repr(str(manifest)))}", ", --manifest") in errors
    status, _, errors = cli("run", "--workspace", strange, "--manifest", manifest)
    assert status == 0, errors
    assert cli("run", "--workspace", strange)[0] == 0


@pytest.mark.slow
def test_all_settings_count_once_they_were_read(strange: Path) -> None:
    status, out, _ = cli("status", "--workspace", strange, "--trust", "--json")
    assert status == 0
    assert json.loads(out)["settings"] == [
        {"setting": "manifest", "value": str(strange.parent / "photos" / "items.jsonl")}
    ]
    assert cli("run", "--workspace", strange)[0] == 0
    assert coldstart.open(strange).trust_note() is None


@pytest.fixture
def planted(strange: Path) -> Path:
    """A strange workspace whose settings were changed to name an endpoint, a key and the whole disk."""
    opened = coldstart.open(strange)
    settings = json.loads(json.dumps(opened._store.pipeline()))
    settings["media"] = {"roots": ["/"], "allowed_hosts": ["evil.example"]}
    settings["stages"]["describe"] = {
        "write": {
            "generator": "openai:m@http://evil.example/v1",
            "options": {"key_env": "AWS_SECRET_ACCESS_KEY"},
        }
    }
    with opened._store.lock():
        opened._store.save_pipeline("planted", settings)
    return strange


@pytest.mark.slow
def test_planted_endpoints_hosts_and_roots_do_not_count(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*arguments: Any, **_: Any) -> None:
        raise AssertionError(f"a host was asked: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    opened = coldstart.open(planted)
    limits = opened.media_limits()
    assert (limits.roots, limits.allowed_hosts) == ((str(planted / "uploads"),), ())  # what came with its own items
    assert opened.search(text="article 1")[0].item_id.startswith("p")
    status, out, errors = cli("status", "--workspace", planted)
    generator = message(planted, "describe.write.generator='openai:m@http://evil.example/v1'")
    assert status == 0 and f"describe.write: {generator}" in out + errors
    with pytest.raises(ColdstartError) as caught:
        opened.run()
    assert "and 4 more, which counts only when given" in str(caught.value)
    changes = ["describe.write.generator=fake", "describe.write.options={}", "media.roots=[]", "media.allowed_hosts=[]"]
    given = opened.pipeline(manifest=planted.parent / "photos" / "items.jsonl", overrides=changes)
    assert given.media.allowed_hosts == ()


@pytest.fixture
def hub_model(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A strange workspace whose text space names a model of the hub."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another-user"))
    opened = coldstart.open(shop)
    settings = json.loads(json.dumps(opened._store.pipeline()))
    settings["stages"]["text"]["encoder"] = "sentence-transformers:planted/model"
    with opened._store.lock():
        opened._store.save_pipeline("planted", settings)
    return shop


@pytest.mark.slow
def test_the_hub_is_asked_for_no_model_of_a_stranger(hub_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coldstart.encoders import sentence_transformers

    asked: list[Any] = []
    monkeypatch.setattr(sentence_transformers, "hub_folder", lambda *names, **_: asked.append(names))
    manifest = hub_model.parent / "photos" / "items.jsonl"
    wanted = message(hub_model, "text.encoder='sentence-transformers:planted/model'")
    status, out, _ = cli("search", "--text", "article 1", "--workspace", hub_model)  # by the vectors that are there
    assert (status, asked) == (0, []) and "p1" in out
    for command, wanted_status in ((("run", "--manifest", manifest), 1), (("status",), 0)):
        status, out, errors = cli(*command, "--workspace", hub_model)
        assert (status, asked) == (wanted_status, []), command
        assert wanted in out + errors
    status, out, _ = cli("status", "--workspace", hub_model, "--trust", "--json")
    assert {"setting": "text.encoder", "value": "sentence-transformers:planted/model"} in json.loads(out)["settings"]
    assert coldstart.open(hub_model).pipeline().stage("text").settings.encoder == "sentence-transformers:planted/model"


@pytest.mark.slow
def test_a_model_of_the_hub_that_this_user_ran_with_asks_nothing(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coldstart.encoders import sentence_transformers

    def offline(*_: Any, **__: Any) -> None:
        raise ColdstartError("own/model is not in the local hub cache")

    monkeypatch.setattr(sentence_transformers, "hub_folder", offline)
    opened = coldstart.open(shop)
    changes = {"encoder": "sentence-transformers:own/model"}
    with pytest.raises(ColdstartError, match="own/model is not in the local hub cache"):
        opened.run(None, spaces={"text": changes}, only=["text"])
    settings = opened.pipeline(spaces={"text": changes}).raw
    with opened._store.lock():
        opened._store.save_pipeline("own", settings)
    assert opened.trust_note() is None
    assert opened.pipeline().stage("text").settings.encoder == changes["encoder"]


@pytest.mark.slow
def test_media_outside_the_folders_given_now_are_not_read(shop: Path, tmp_path: Path) -> None:
    from coldstart.core.stage import Reject
    from coldstart.media import guard

    secret = tmp_path / "secret.jpg"
    secret.write_bytes((tmp_path / "photos" / "p1.jpg").read_bytes())
    opened = coldstart.open(shop)
    rows = opened._store.read("items", ids=["p1"]).to_pylist()
    rows[0]["media"][0]["uri"] = str(secret)
    page = coldstart.open(shop).media_limits()
    with pytest.raises(Reject) as caught, guard.local_path(str(secret), page):
        pass
    assert str(caught.value) == (
        f"outside_media_roots: {secret} is in none of the folders named for media: name its own with --media-root"
    )
    with guard.local_path(str(secret), opened.media_limits(secret)) as path:
        assert path == secret
    with guard.local_path(str(secret), Limits()) as path:
        assert path == secret


@pytest.mark.slow
def test_a_second_pipeline_reads_media_where_the_first_did(shop: Path) -> None:
    settings = catalogue.settings(Path("none"))
    del settings["manifest"]
    limits = coldstart.open(shop).pipeline(settings).media.limits()
    assert limits["roots"] == (str(shop.parent / "photos"), str(shop / "uploads"))


@pytest.mark.slow
def test_a_change_of_one_setting_gives_no_other_one_of_the_space(strange: Path) -> None:
    opened = coldstart.open(strange)
    manifest = strange.parent / "photos" / "items.jsonl"
    settings = json.loads(json.dumps(opened._store.pipeline()))
    name = next(name for name, own in settings["stages"].items() if "encoder" in own)
    settings["stages"][name]["prompt"] = "/planted/own.md"
    with opened._store.lock():
        opened._store.save_pipeline("planted", settings)
    with pytest.raises(ColdstartError) as caught:
        opened.pipeline(manifest=manifest, spaces={name: {"encoder": "fake"}})
    assert str(caught.value) == message(strange, f"{name}.prompt='/planted/own.md'")
    given = opened.pipeline(manifest=manifest, spaces={name: {"encoder": "fake", "prompt": "item"}})
    assert given.stage(name).settings.prompt == "item"


# -- what a fit or a passport names


@pytest.mark.slow
def test_a_passport_cannot_name_a_folder(shop: Path) -> None:
    from coldstart.embed.spaces import encoder_of
    from coldstart.encoders import Passport

    opened = coldstart.open(shop)
    with pytest.raises(ColdstartError) as caught:
        encoder_of(Passport("hf:/planted", "w", "p", 8), opened.pipeline(), opened._store)
    assert str(caught.value).startswith("vectors of hf:/planted (21dc254481cc) are by an encoder that no stage names")


@pytest.mark.slow
def test_a_fit_cannot_name_what_its_pipeline_does_not(tmp_path: Path, shop: Path) -> None:
    from coldstart.store.fits import check_heads

    pipeline = coldstart.open(shop).pipeline()
    towers = {side: {"encoder": "open_clip:local-dir:/planted"} for side in ("image", "text")}
    (tmp_path / "heads.json").write_text(json.dumps({"towers": towers}))
    with pytest.raises(ColdstartError) as caught:
        check_heads(tmp_path, pipeline)
    assert str(caught.value) == (
        f"the fit in {tmp_path} names open_clip:local-dir:/planted, which the pipeline does not: fit it again"
    )


@pytest.mark.slow
def test_a_fit_cannot_name_a_model_of_the_hub_that_a_distrusted_stage_names(tmp_path: Path, hub_model: Path) -> None:
    from coldstart.store.fits import check_heads

    towers = {side: {"encoder": "sentence-transformers:planted/model"} for side in ("image", "text")}
    (tmp_path / "heads.json").write_text(json.dumps({"towers": towers}))
    with pytest.raises(ColdstartError, match="names sentence-transformers:planted/model, which the pipeline does not"):
        check_heads(tmp_path, coldstart.open(hub_model)._reading_pipeline())
