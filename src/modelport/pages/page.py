"""A page of parts, each with paragraphs, pictures and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph; a warning stands out."""

    words: str
    warning: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the page.

    Attributes:
        heading: Its heading.
        texts: Paragraphs.
        pictures: SVG.
        columns: Headings of its table; empty for a table of facts.
        rows: Cells of its table.
        facts: Whether the table has a name and a text in each row.
    """

    heading: str
    texts: Sequence[Text] = ()
    pictures: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    facts: bool = False


def render(title: str, subtitle: str, parts: Sequence[Part]) -> str:
    """The page's text."""
    template = (Path(__file__).with_name("templates") / "page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(title=title, subtitle=subtitle, parts=parts)
