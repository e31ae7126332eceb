"""The client of chat endpoints against a real server in a thread."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import numpy as np
import pytest
from openai_server import ALL_FORMATS, Behaviour, free_port, running
from PIL import Image

from coldstart import generators
from coldstart.core.attributes import Attribute
from coldstart.core.description import json_schema
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Generator, Request, Sampling, _chat_client

SCHEMA = json_schema({"colour": Attribute(values=("red", "blue", "green"))}, ("attributes", "summary"))
RED = '{"attributes": {"colour": "red"}, "summary": "red."}'
SAMPLING = Sampling(max_new_tokens=40, seed=7)


@pytest.fixture(autouse=True)
def quick_and_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(_chat_client, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(_chat_client, "LONGEST_PAUSE_S", 0.1)


def load(url: str, **options: Any) -> Generator:
    return generators.load(f"openai:small@{url}", **options)


def ask(*words: str) -> list[Request]:
    return [Request(f"a {word} shoe", "Describe it.", SCHEMA) for word in words]


def one(url: str, request: Request | None = None, **options: Any) -> Generation | Reject:
    (result,) = load(url, **options).generate([request or ask("red")[0]], SAMPLING)
    return result


def test_a_request_as_it_is_sent() -> None:
    with running() as server:
        assert one(server.url) == Generation(RED, "stop", 5, 5)
    (seen,) = server.seen
    assert seen == {
        "path": "/v1/chat/completions",
        "authorization": None,
        "body": {
            "model": "small",
            "messages": [
                {"role": "system", "content": "Describe it."},
                {"role": "user", "content": "a red shoe"},
            ],
            "max_tokens": 40,
            "temperature": 0.0,
            "top_p": 1.0,
            "seed": 7,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "description", "strict": False, "schema": SCHEMA},
            },
        },
    }


def test_a_free_request_asks_for_no_format_and_has_no_empty_system_message() -> None:
    with running() as server:
        assert one(server.url, Request("say what this is")) == Generation("say what this is", "stop", 4, 4)
    assert server.seen[0]["body"]["messages"] == [{"role": "user", "content": "say what this is"}]
    assert "response_format" not in server.seen[0]["body"]


def test_results_are_in_the_order_of_the_requests_and_so_many_are_under_way() -> None:
    words = ["red", "blue", "green"] * 8
    with running(Behaviour(delay_s=0.02)) as server:
        results = load(server.url, concurrency=4).generate(ask(*words), SAMPLING)
        assert load(server.url).generate([], SAMPLING) == []
    assert [json.loads(result.text)["attributes"]["colour"] for result in results] == words
    assert 1 < server.most_under_way <= 4  # a busy machine may not get to all four


def test_an_answer_that_is_cut_says_so() -> None:
    with running() as server:
        (result,) = load(server.url).generate(ask("red"), Sampling(max_new_tokens=2))
    assert result == Generation('{"attributes": {"colour":', "length", 5, 2)


def test_tokens_are_estimated_where_the_endpoint_states_none() -> None:
    with running(Behaviour(states_usage=False)) as server:
        assert one(server.url) == Generation(RED, "stop", 8, 40)


def test_token_counts_are_an_estimate_of_bytes() -> None:
    counts = load("http://127.0.0.1:9/v1").count_tokens(["", "a", "abcdef", "кошка", "猫猫", "\ud800"])
    assert counts == [0, 1, 2, 4, 2, 1]


@pytest.mark.parametrize("known", [ALL_FORMATS[place:] for place in range(4)])
def test_the_next_form_is_asked_for_where_one_is_refused_and_remembered(known: tuple[str, ...]) -> None:
    with running(Behaviour(formats=known)) as server:
        generator = load(server.url, concurrency=1)
        results = generator.generate(ask("red", "blue"), SAMPLING)
    assert [json.loads(result.text)["attributes"]["colour"] for result in results] == ["red", "blue"]
    refused = ALL_FORMATS.index(known[0])
    assert len(server.seen) == refused + 2
    name = f"openai:small@{server.url}"
    spent = f"{name}: 2 answers, {sum(result.prompt_tokens for result in results)} tokens read, 10 written"
    less = f"{name} does not bind by response_format json_schema: used {known[0]} instead"
    assert generator.notes() == ([spent, less] if refused else [spent])
    stated = f"Describe it.\nAnswer with one JSON object that this JSON schema allows: {json.dumps(SCHEMA)}"
    assert server.seen[-1]["body"]["messages"][0]["content"] == (stated if refused > 1 else "Describe it.")


def test_an_endpoint_that_takes_a_schema_and_ignores_it_is_told_it_in_words() -> None:
    loose = (200, {}, json.dumps({"choices": [{"message": {"content": "A red shoe."}, "finish_reason": "stop"}]}))
    with running(Behaviour(faults=(loose, loose))) as server:
        generator = load(server.url, concurrency=1)
        results = generator.generate(ask("red", "blue"), SAMPLING)
    assert [json.loads(result.text)["summary"] for result in results] == ["red.", "blue."]
    assert [_form(seen["body"]) for seen in server.seen] == [*ALL_FORMATS[:3], ALL_FORMATS[2]]


def test_an_endpoint_that_binds_nothing_is_asked_once_for_each_item_after_the_first() -> None:
    loose = (200, {}, json.dumps({"choices": [{"message": {"content": "A shoe."}, "finish_reason": "stop"}]}))
    with running(Behaviour(faults=(loose,) * 9)) as server:
        results = load(server.url, concurrency=1).generate(ask("red", "blue", "green"), SAMPLING)
    assert [result.text for result in results] == ["A shoe."] * 3
    assert [_form(seen["body"]) for seen in server.seen] == [*ALL_FORMATS, "text", "text"]


def test_a_form_that_served_is_kept_though_one_item_is_refused() -> None:
    """The second answer is a 400 about that item, in words that name no reason known here."""
    bad = (400, {}, '{"error": {"message": "no"}}')
    good = (200, {}, json.dumps({"choices": [{"message": {"content": RED}, "finish_reason": "stop"}]}))
    with running(Behaviour(faults=(good, bad, bad, bad, bad))) as server:
        generator = load(server.url, concurrency=1)
        first, second, third = generator.generate(ask("red", "blue", "green"), SAMPLING)
    assert first.text == RED
    assert (second.reason, second.detail) == ("request_refused", f"{server.url}: HTTP status 400 no")
    assert json.loads(third.text)["attributes"] == {"colour": "green"}
    assert [_form(seen["body"]) for seen in server.seen] == [*ALL_FORMATS[:1], *ALL_FORMATS, ALL_FORMATS[0]]


def test_an_endpoint_that_answers_500_to_a_form_it_does_not_know_is_not_waited_for() -> None:
    """As llama-cpp-python's server does."""
    unknown = "1 validation error: {'type': 'literal_error', 'loc': ('body', 'response_format', 'type')}"
    fault = (500, {}, json.dumps({"error": {"message": unknown, "type": "internal_server_error", "code": None}}))
    with running(Behaviour(faults=(fault,))) as server:
        assert one(server.url, patience_s=0).text == RED
    assert [_form(seen["body"]) for seen in server.seen] == ["json_schema", "json_object with schema"]


def _form(body: dict[str, Any]) -> str:
    format_ = body.get("response_format", {"type": "text"})
    return f"{format_['type']} with schema" if "schema" in format_ else format_["type"]


def test_parameters_that_the_endpoint_does_not_know_are_renamed_or_left_out() -> None:
    with running(Behaviour(unknown=("max_tokens", "seed", "temperature", "top_p"))) as server:
        assert one(server.url) == Generation(RED, "stop", 5, 5)
    sent = server.seen[-1]["body"]
    assert sent["max_completion_tokens"] == 40
    assert not {"max_tokens", "seed", "temperature", "top_p"} & sent.keys()
    assert _form(sent) == "json_schema"


def test_pictures_travel_as_jpeg_before_the_text() -> None:
    rows = np.zeros((40, 60, 3), np.uint8)
    rows[:, :30] = (250, 20, 20)
    with running() as server:
        generator = load(server.url, image_side=768)
        transform = generator.image_transform
        assert transform is not None
        assert transform.apply(Image.new("RGB", (1536, 800))).shape == (400, 768, 3)
        generator.generate([Request("a red shoe", "", SCHEMA, (rows, rows))], SAMPLING)
    first, second, text = server.seen[0]["body"]["messages"][0]["content"]
    assert text == {"type": "text", "text": "a red shoe"}
    assert first == second
    head, _, data = first["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.abs(back.astype(int) - rows)[:, 5:25].max() < 12


def test_pictures_are_not_sent_unasked() -> None:
    with running() as server:
        generator = load(server.url)
        assert generator.image_transform is None
        with pytest.raises(ColdstartError) as caught:
            generator.generate([Request("x", images=(np.zeros((2, 2, 3), np.uint8),))], SAMPLING)
    assert str(caught.value) == (
        f"generator 'openai:small@{server.url}' sends no pictures: allow it by the option image_side, such as 768"
    )
    assert server.seen == []


def test_refusals_are_verdicts_on_their_items() -> None:
    with running(Behaviour(refuses="blue", filters="green")) as server:
        red, blue, green = load(server.url).generate(ask("red", "blue", "green"), SAMPLING)
    assert isinstance(red, Generation)
    assert (blue.reason, blue.detail) == ("refused", "I cannot help.")
    assert (green.reason, green.detail) == ("refused", "the endpoint's content filter cut the answer")
    blocked = (400, {}, '{"error": {"message": "The prompt was filtered.", "code": "content_filter"}}')
    with running(Behaviour(faults=(blocked,))) as server:
        result = one(server.url)
    assert (result.reason, result.detail) == ("refused", "HTTP status 400 The prompt was filtered. content_filter")


def test_a_prompt_over_the_context_is_a_verdict_on_its_item() -> None:
    with running(Behaviour(context=5)) as server:
        long, short = load(server.url).generate([Request("x " * 6, schema=SCHEMA), *ask("red")], SAMPLING)
    said = "HTTP status 400 This model's maximum context length is 5 tokens."
    assert (long.reason, long.detail) == ("prompt_too_long", said)
    assert isinstance(short, Generation)


@pytest.mark.parametrize("status", [0, 408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_passing_faults_are_tried_again(status: int) -> None:
    with running(Behaviour(faults=((status, {}, "later"),) * 3)) as server:
        assert one(server.url) == Generation(RED, "stop", 5, 5)
    assert len(server.seen) == 4


def test_the_endpoint_says_when_to_come_back_and_nobody_comes_before() -> None:
    with running(Behaviour(faults=((429, {"retry-after": "0.6"}, "slow down"),))) as server:
        generator = load(server.url, concurrency=1)
        start = time.monotonic()
        generator.generate(ask("red", "blue"), SAMPLING)
    assert time.monotonic() - start >= 0.6
    assert len(server.seen) == 3


def test_an_endpoint_that_wants_to_rest_longer_than_patience_is_not_waited_for() -> None:
    with running(Behaviour(faults=((503, {"retry-after": "600"}, "upgrade"),))) as server:
        start = time.monotonic()
        result = one(server.url, patience_s=30)
    assert time.monotonic() - start < 30
    assert (result.reason, result.state) == ("endpoint_failed", "failed")
    assert result.detail == f"{server.url}: HTTP status 503 upgrade (patience_s: 30)"


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    with running(Behaviour(delay_s=1)) as server:
        result = one(server.url, timeout_s=0.1, patience_s=0.3)
    assert result.reason == "endpoint_failed"
    words = ("ReadTimeout timed out", "it was given up")  # by when the patience ends: in a request or between two
    assert result.detail in {f"{server.url}: {word} (patience_s: 0.3)" for word in words}


@pytest.mark.slow
def test_an_endpoint_that_stays_down_costs_its_patience_once_and_is_found_again() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    generator = load(url, patience_s=2, concurrency=2)
    start = time.monotonic()
    results = generator.generate(ask(*["red"] * 50), SAMPLING)
    assert 1 < time.monotonic() - start < 40  # 50 requests, two at once, each its own two seconds: 50
    assert {result.reason for result in results} == {"endpoint_failed"}
    refused = f"{url}: ConnectError [Errno 111] Connection refused (patience_s: 2)"
    details = {result.detail for result in results}
    assert refused in details
    assert details <= {refused, f"{url}: it was given up (patience_s: 2)"}  # by how fast the refusals come
    start = time.monotonic()
    again = generator.generate(ask(*["red"] * 50), SAMPLING)
    assert time.monotonic() - start < 2
    assert [str(result) for result in again] == [f"endpoint_failed: {refused}"] * 50
    with running(port=port):
        back = generator.generate(ask("red", "blue"), SAMPLING)
    assert [json.loads(result.text)["summary"] for result in back] == ["red.", "blue."]


@pytest.mark.parametrize(
    ("behaviour", "key", "message"),
    [
        (
            Behaviour(key="right"),
            None,
            "NAME: HERE answers HTTP status 401 Incorrect API key provided: None invalid_api_key: "
            "put its key into MY_KEY, which is not set, or name another variable by key_env",
        ),
        (
            Behaviour(key="right"),
            "wrong-key-of-mine",
            "NAME: HERE answers HTTP status 401 Incorrect API key provided: Bearer *** invalid_api_key: "
            "put the right key into MY_KEY, or name its variable by key_env",
        ),
        (
            Behaviour(models=("large",)),
            None,
            "NAME: HERE answers HTTP status 404 The model `small` does not exist model_not_found: "
            "is 'small' among the models of HERE/models, and is this its base URL?",
        ),
        (
            Behaviour(faults=((400, {}, '{"error": {"message": "no such model", "code": "model_not_found"}}'),)),
            None,
            "NAME: HERE answers HTTP status 400 no such model model_not_found: "
            "is 'small' among the models of HERE/models, and is this its base URL?",
        ),
        (
            Behaviour(faults=((429, {}, '{"error": {"message": "You are out.", "code": "insufficient_quota"}}'),)),
            None,
            "NAME: HERE answers HTTP status 429 You are out. insufficient_quota: "
            "the account has no credit left: add some, or name another endpoint",
        ),
        (
            Behaviour(faults=((302, {"location": "http://elsewhere/v1"}, ""),)),
            None,
            "NAME: HERE answers HTTP status 302: "
            "it points to http://elsewhere/v1: write the address that it should have",
        ),
        (
            Behaviour(faults=((200, {}, "<html>\x1b[31mWelcome"),)),
            None,
            "NAME: HERE does not answer as a chat endpoint (Expecting value: line 1 column 1 (char 0)): "
            "write its base URL, such as http://HOST:8000/v1",
        ),
        (
            Behaviour(faults=((200, {}, '{"object": "list"}'),)),
            None,
            "NAME: HERE does not answer as a chat endpoint (no chat completion: KeyError 'choices'): "
            "write its base URL, such as http://HOST:8000/v1",
        ),
    ],
)
def test_what_no_waiting_mends_ends_the_run(
    behaviour: Behaviour, key: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not for them")
    if key:
        monkeypatch.setenv("MY_KEY", key)
    with running(behaviour) as server, pytest.raises(ColdstartError) as caught:
        load(server.url, key_env="MY_KEY", concurrency=1).generate(ask("red", "blue"), SAMPLING)
    named = message.replace("NAME", f"generator 'openai:small@{server.url}'").replace("HERE", server.url)
    assert str(caught.value) == named


def test_the_key_goes_into_the_header_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-1\n")
    with running(Behaviour(key="secret-1")) as server:
        generator = load(server.url, key_env="MY_KEY")
        assert isinstance(generator.generate(ask("red"), SAMPLING)[0], Generation)
    assert server.seen[0]["authorization"] == "Bearer secret-1"
    assert "secret" not in repr((generator.passport(), generator.name, generator.notes(), server.seen[0]["body"]))
    monkeypatch.setenv("MY_KEY", "secret\nX-Other: 1")
    with pytest.raises(ColdstartError) as caught:
        generator.generate(ask("red"), SAMPLING)
    assert str(caught.value) == f"generator '{generator.name}': MY_KEY holds characters that no key has: set it again"


def test_a_fault_of_the_set_up_keeps_the_rest_from_being_sent() -> None:
    with running(Behaviour(key="right", delay_s=0.05)) as server, pytest.raises(ColdstartError):
        load(server.url, concurrency=2).generate(ask(*["red"] * 100), SAMPLING)
    assert len(server.seen) < 20


def test_proxies_of_the_environment_do_not_stand_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with running() as server:
        assert isinstance(one(server.url, patience_s=0.1), Generation)


def test_rate_limits_space_the_requests() -> None:
    with running() as server:
        start = time.monotonic()
        load(server.url, requests_per_minute=600).generate(ask(*["red"] * 4), SAMPLING)
        assert time.monotonic() - start >= 0.3
        start = time.monotonic()
        load(server.url, tokens_per_minute=60 * 480).generate(ask(*["red"] * 4), SAMPLING)
        assert time.monotonic() - start >= 0.3


def test_cost_is_counted_at_the_prices_given() -> None:
    with running() as server:
        generator = load(server.url, prompt_price_per_million=1000, new_price_per_million=2000)
        assert generator.notes() == []
        generator.generate(ask("red", "blue"), SAMPLING)
    assert generator.notes() == [
        f"openai:small@{server.url}: 2 answers, 10 tokens read, 10 written, 0.0300 at the prices given"
    ]


def test_the_passport_names_url_or_revision_and_needs_no_endpoint() -> None:
    first = load("http://127.0.0.1:9/v1/").passport()
    assert (first.model, first.weights, first.adapter) == ("openai:small", "as served at http://127.0.0.1:9/v1", "")
    same = load("http://127.0.0.1:9/v1", concurrency=2, timeout_s=3, patience_s=1, key_env="X").passport()
    assert same == first
    assert load("http://127.0.0.1:9/v1", image_side=512).passport() != first
    moved = [load(f"http://127.0.0.1:{port}/v1", revision="2026-08").passport() for port in (8, 9)]
    assert moved[0] == moved[1]
    assert moved[0].weights == "revision 2026-08"


WRITE = "write openai:MODEL@BASE_URL, such as openai:smollm2@http://127.0.0.1:8000/v1"
ALONE = "the base URL has a host and a path alone; its key goes into the environment variable OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", f"generator 'openai:': {WRITE}"),
        ("gpt", f"generator 'openai:gpt': {WRITE}"),
        ("@http://host/v1", f"generator 'openai:@http://host/v1': {WRITE}"),
        ("m@file:///etc/passwd", f"generator 'openai:m@file:///etc/passwd': {WRITE}"),
        ("m@http://", f"generator 'openai:m@http://': {WRITE}"),
        ("m@https://me:secret@host/v1", f"generator 'openai:m@…': {ALONE}"),
        ("m@https://host/v1?key=secret", f"generator 'openai:m@…': {ALONE}"),
        ("m@https:///v1", f"generator 'openai:m@…': {ALONE}"),
        ("m@http://h:port/v1", "generator 'openai:m@…': the base URL is none: Invalid port: 'port'"),
    ],
)
def test_names_that_are_none(rest: str, message: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        generators.load(f"openai:{rest}")
    assert str(caught.value) == message


def test_model_names_may_have_marks() -> None:
    generator = generators.load("openai:@cf/meta/llama-3:8b@https://host/v1")
    assert generator.passport().model == "openai:@cf/meta/llama-3:8b"


@pytest.mark.parametrize("option", ["concurrency", "timeout_s", "requests_per_minute", "image_side"])
def test_options_out_of_range(option: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        load("http://h/v1", **{option: 0})
    assert str(caught.value) == f"generator 'openai:small@http://h/v1': option {option}: 0 is not above 0"


def test_adapters_are_served_by_the_endpoint(tmp_path: Any) -> None:
    with pytest.raises(ColdstartError) as caught:
        load("http://h/v1", adapter=tmp_path)
    assert str(caught.value) == (
        f"generator 'openai:small@http://h/v1' takes no adapter: serve {tmp_path}/adapter beside the model at the "
        "endpoint (vLLM: --enable-lora --lora-modules NAME=FOLDER) and write openai:NAME@BASE_URL"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"error": {"message": "a\\n b", "code": "c", "param": "p"}}', "a b c p"),
        ('{"error": "plain"}', "plain"),
        ('{"detail": [{"loc": ["body", "response_format"]}]}', '[{"loc": ["body", "response_format"]}]'),
        ('{"object": "error", "message": "vllm says"}', "vllm says"),
        ("<b>\x1b[31m Bad \x00gateway</b>", "<b> [31m Bad gateway</b>"),
        ('"text"', "text"),
        ("[" * 5000, "[" * 300),
        ("", ""),
        ('{"error": {}}', "{}"),
    ],
)
def test_words_of_an_error_are_one_short_printable_line(text: str, words: str) -> None:
    assert _chat_client.error_text(text) == words
