"""HTML in texts: plain text comes out of it, and other texts stay as they are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.core.html_text import clean_html


@pytest.mark.parametrize(
    "text",
    ["", "plain  text\r\n", "5 < 7 & AT&T", "size <XL> or <M>", "I <3 it", "a&b;c", "&unknownentity;", "x > y <- z"],
)
def test_a_text_without_html_stays_byte_by_byte(text: str) -> None:
    assert clean_html(text) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Tom &amp; Jerry  &euro;5", "Tom & Jerry  €5"),
        ("A &amp;amp; B", "A & B"),
        ("<p>One</p><p>Two<br>three</p>", "One\n\nTwo\nthree"),
        ("<ul>\n <li>One</li><li><p>Two</p></li><li></li>\n</ul>after", "- One\n- Two\n\nafter"),
        ("<b>Line 1\nLine 2</b>", "Line 1\nLine 2"),
        ("x<script>alert('<b>')</script><style>a{}</style><!-- c -->y", "xy"),
        ("<table><tr><th>Size</th><td>M</td></tr><tr><th>Red</th></tr></table>", "Size M\nRed"),
        ("&lt;p&gt;Soap &amp;amp; foam&lt;/p&gt;", "Soap & foam"),
        ("Größe<br/>M <XL>&nbsp;x", "Größe\nM x"),
        ("<![CDATA[<p>Soap</p>]]>", "Soap"),
        ("<P CLASS='a'>unclosed <B>bold", "unclosed bold"),
        ("<div>a</div>\n <div>b</div><br><br><br>c", "a\nb\n\nc"),
        ("<img src=x onerror=alert(1)>soap", "soap"),
    ],
)
def test_html_becomes_plain_text(text: str, plain: str) -> None:
    assert clean_html(text) == plain


def test_thousands_of_tags_take_no_seconds() -> None:
    assert clean_html("<div>" * 200_000 + "x<script>y</script>") == "x"


@settings(max_examples=50)
@given(st.text(alphabet="<>/&;#x01pbrliul divscript!-[]\n é", max_size=60))
def test_any_text_has_a_plain_text(text: str) -> None:
    assert "<br>" not in clean_html(clean_html(text))
