"""Checks of HTML pages: by their text alone, and as Chromium lays them out."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hostile_page import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def unknown_classes(source: str) -> set[str]:
    """List the classes of a page that no rule of its style sheet names."""
    style = " ".join(re.findall(r"<style>(.*?)</style>", source, flags=re.DOTALL))
    selectors = re.sub(r"\{[^{}]*\}", " ", style)
    known = set(re.findall(r"\.([A-Za-z][\w-]*)", selectors))
    used = {name for value in Page(source).values("class") for name in value.split()}
    return used - known


MEASURE = """
const clip = (rect, element) => {
  let box = {left: rect.left, right: rect.right, top: rect.top, bottom: rect.bottom};
  for (let e = element; e && e.tagName !== 'BODY'; e = e.parentElement) {
    const view = e.ownerDocument.defaultView;
    if (view.getComputedStyle(e).overflowX === 'visible') continue;
    const outer = e.getBoundingClientRect();
    box = {left: Math.max(box.left, outer.left), right: Math.min(box.right, outer.right),
           top: Math.max(box.top, outer.top), bottom: Math.min(box.bottom, outer.bottom)};
  }
  return box;
};
const measure = (frame) => {
  const doc = frame.contentDocument, texts = [];
  for (const one of doc.querySelectorAll('details')) one.open = true;
  const walker = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.data.trim() || node.parentElement.closest('title')) continue;
    const range = doc.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      const box = clip(rect, node.parentElement);
      if (box.right - box.left > 1 && box.bottom - box.top > 1) texts.push({node, text: node.data.trim(), ...box});
    }
  }
  texts.sort((a, b) => a.top - b.top);
  const overlaps = [];
  for (let i = 0; i < texts.length; i++)
    for (let j = i + 1; j < texts.length && texts[j].top < texts[i].bottom - 4; j++) {
      const a = texts[i], b = texts[j];
      if (a.node !== b.node && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 3
          && Math.min(a.bottom, b.bottom) - b.top > 4) overlaps.push(`${a.text} | ${b.text}`);
    }
  const images = [...doc.images];
  return {
    scroll: doc.documentElement.scrollWidth, width: frame.clientWidth, texts: texts.length, overlaps,
    images: images.length, broken: images.filter((one) => !one.naturalWidth).length,
    unnamed: images.filter((one) => !one.alt.trim()).length,
  };
};
"""
"""Script with `measure(frame)`, for a frame or `{contentDocument, clientWidth}`; `laid_out` says what it returns."""
# A page is laid out in a frame of the width; its own policy forbids scripts in it, so this one looks in from outside.
_SCRIPT = (
    MEASURE
    + """
addEventListener('load', () => {
  const found = [...document.querySelectorAll('iframe')].map((frame) => ({name: frame.name, ...measure(frame)}));
  document.querySelector('pre').textContent = JSON.stringify(found);
});
"""
)


def laid_out(pages: Mapping[str, str], folder: Path, widths: Sequence[int] = (390, 1280)) -> list[dict[str, Any]]:
    """Lay out pages in one start of Chromium; a record for each page and width.

    Returns:
        `name`, `width`, `scroll` (width that it takes), `texts`, `overlaps` (pairs of texts that lie on each other),
        `images`, `broken` and `unnamed` (images without an alternative text).
    """
    assert CHROMIUM is not None
    frames = "".join(
        f'<iframe name="{name}" width="{width}" height="900" style="border:0" srcdoc="{html.escape(source)}"></iframe>'
        for name, source in pages.items()
        for width in widths
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(
        f"<!doctype html><meta charset=utf-8><body><pre></pre>{frames}<script>{_SCRIPT}</script>", encoding="utf-8"
    )
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
               "--hide-scrollbars", "--dump-dom", wrapper.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    printed = re.search(r"<pre>(.+?)</pre>", done.stdout, flags=re.DOTALL)
    assert printed is not None, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(html.unescape(printed[1]))
    return found
