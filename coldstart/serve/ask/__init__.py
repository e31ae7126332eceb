"""Answer questions about a catalogue by few calls of tools, each sentence with the fields that it rests on.

`router` plans by rules and needs no model; `model` lets a generator plan and write. `check` cuts sentences without
ground, of both.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from coldstart.serve.ask.answers import MOST_CALLS, NOTHING, Answer, Cite, Sentence, Session, Step
from coldstart.serve.tools import Tools

if TYPE_CHECKING:
    from coldstart.generators import Generator

__all__ = ["MOST_CALLS", "NOTHING", "Answer", "Cite", "Sentence", "Session", "Step", "answer_question"]


def answer_question(
    tools: Tools,
    question: str,
    generator: Generator | None = None,
    *,
    now: datetime | None = None,
    most_calls: int = MOST_CALLS,
) -> Answer:
    """Answer one question.

    Args:
        generator: plans and writes; None: the router does.
        now: for `yesterday` and the like; by default the present.

    Raises:
        ColdstartError: the question is empty, or the generator fails.
    """
    from coldstart.errors import ColdstartError

    if not question.strip():
        raise ColdstartError("question: it is empty: ask something", kind="usage")
    start, session = time.monotonic(), Session(tools, most_calls)
    if generator is None:
        from coldstart.serve.ask.router import answer_by_rules

        answer = answer_by_rules(session, question, now)
    else:
        from coldstart.serve.ask.model import answer_by_model

        answer = answer_by_model(session, question, generator, now)
    answer.steps, answer.seconds = session.steps, time.monotonic() - start
    return answer
