"""Texts that try to become markup or to steer a terminal, and a reader of pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> & {{ 7 * 7 }} {% raw %}"


STEERING = "red \x1b[31m\x9b5m\r\nover\u202e \ud800"


class Page(HTMLParser):
    """Tags, attributes and texts of a page, its style sheet apart."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(re.sub(r"<style>.*?</style>", "", source, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]
