import pytest

from coldstart import encoders
from coldstart.encoders import Passport
from coldstart.errors import ColdstartError

KNOWN = "align, colours, open_clip, sentence-transformers, starter, starter-clip"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("open-clipp:x", {}, "encoder 'open-clipp:x' is unknown: nearest are open_clip, starter-clip"),
        (
            "zzz",
            {},
            "encoder 'zzz' is unknown: nearest are " + KNOWN,
        ),
        ("_hub", {}, "encoder '_hub' is unknown: nearest are " + KNOWN),
        ("fake", {"colour": 1}, "option 'colour' is unknown to encoder 'fake': it takes none"),
        (
            "sentence-transformers:x",
            {"prompt": "q: "},
            "option 'prompt' is unknown to encoder 'sentence-transformers:x': "
            "it takes query_prompt, document_prompt, truncate_dim, max_side",
        ),
        ("fake", {"dtype": "int8"}, "dtype 'int8' is unknown: use auto, float32, bfloat16 or float16"),
        ("fake", {"device": "gpu"}, "device 'gpu' is unknown: use auto, cpu, cuda, cuda:N or mps"),
        ("fake:many", {}, "encoder 'fake:many': 'many' is no number of dimensions; write fake:64"),
        ("colours:red", {}, "encoder 'colours:red' is unknown: write colours"),
        (
            "starter:large",
            {},
            "encoder 'starter:large' is unknown: write starter, starter:levels or starter:multilingual",
        ),
    ],
)
def test_a_wrong_name_or_option_says_what_is_right(name: str, options: dict, message: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        encoders.load(name, **options)
    assert str(caught.value) == message


def test_a_passport_differs_with_every_field() -> None:
    base = Passport("a", "sha256:1", "squash", 8)
    others = [
        Passport("b", "sha256:1", "squash", 8),
        Passport("a", "sha256:2", "squash", 8),
        Passport("a", "sha256:1", "shortest", 8),
        Passport("a", "sha256:1", "squash", 9),
        Passport("a", "sha256:1", "squash", 8, "dot"),
    ]
    assert len({p.digest for p in [base, *others]}) == 6


def test_the_fake_puts_like_things_near_and_counts_its_work() -> None:
    fake = encoders.load("fake:64")
    near, far = (
        fake.encode_documents(["red running shoe", "red running shoes", "banana split"])[[1, 2]]
        @ (fake.encode_queries(["red running shoe"])[0])
    )
    assert near > 0.8 > 0.4 > far
    assert fake.calls == {"documents": 1, "queries": 1}  # type: ignore[attr-defined]
    assert fake.items == {"documents": 3, "queries": 1}  # type: ignore[attr-defined]
