"""Renders pages: a template that extends `page.html.j2` and may import `macros.html.j2`."""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2

from pyramidseg.base.version import __version__

INK, MUTED, GRID = "#24292f", "#6e7781", "#d0d7de"
"""Colours of text, labels and lines in plots, which `svg_uri` turns light where the reader's screen is dark."""


@dataclass(frozen=True)
class Figure:
    """A picture on a page.

    Attributes:
        image: data URI.
        alt: what it shows, for those who do not see it.
        note: a line below it.
    """

    image: str
    alt: str
    note: str = ""


def render(template: str, *, title: str, **values: Any) -> str:
    """A whole page from the text of its template, autoescaped."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_shared),
    )
    environment.filters["figure"] = figure_text
    environment.filters["plain"] = plain
    return environment.from_string(template).render(title=title, version=__version__, **values)


def template_of(package: str, name: str) -> str:
    """A template that lies beside the code of a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def sections(settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """One level of sections; settings without one come first, under an empty heading."""
    loose = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    nested = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    return ({"": loose} if loose else {}) | nested


def svg_uri(svg: bytes) -> str:
    """An SVG whose ink turns light where the reader's screen is dark, and whose text has the page's font."""
    style = f"""<style>
text {{ font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif !important }}
@media (prefers-color-scheme: dark) {{
text[style*="{INK}"] {{ fill: #e6edf3 !important }}
text[style*="{MUTED}"] {{ fill: #9198a1 !important }}
[style*="stroke: {GRID}"] {{ stroke: #3d444d !important }}
}}
</style></svg>"""
    text = svg.decode().rpartition("</svg>")[0] + style
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def figure_text(value: float) -> str:
    """A figure of merit, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def plain(value: object) -> str:
    """A setting as one would write it in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value) or "–"
    return str(value)


def css(color: tuple[int, int, int]) -> str:
    """A colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def _shared(name: str) -> str | None:
    file = files(__package__).joinpath(name)
    return file.read_text(encoding="utf-8") if file.is_file() else None
