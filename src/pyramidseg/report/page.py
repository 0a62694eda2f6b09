"""Render HTML pages from templates that extend `report/page.html.j2` and may import `report/macros.html.j2`."""

import math
from dataclasses import dataclass
from typing import Any

import jinja2

from pyramidseg.base.text import base64_text, printable
from pyramidseg.base.version import __version__

INK, MUTED, GRID = "#24292f", "#6e7781", "#d0d7de"
"""Colours of text, labels and lines in plots; `svg_uri` makes them light in dark mode."""


@dataclass(frozen=True)
class PageFigure:
    """A picture on a page.

    Attributes:
        image: data URI.
        alt: alternative text.
        note: caption.
    """

    image: str
    alt: str
    note: str = ""


def render_page(template: str, *, title: str, **values: Any) -> str:
    """Render a page from its template, a path in the library; values are escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.PackageLoader("pyramidseg", "."),
        finalize=lambda value: value if hasattr(value, "__html__") else printable(str(value)),
    )
    environment.filters["score"] = format_score
    environment.filters["setting"] = format_setting
    return environment.get_template(template).render(title=title, version=__version__, **values)


def svg_uri(svg: bytes) -> str:
    """Data URI of an SVG, with rules for dark mode and the font of the page."""
    style = f"""<style>
text {{ font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif !important }}
@media (prefers-color-scheme: dark) {{
text[style*="{INK}"] {{ fill: #e6edf3 !important }}
text[style*="{MUTED}"] {{ fill: #9198a1 !important }}
[style*="stroke: {GRID}"] {{ stroke: #3d444d !important }}
}}
</style></svg>"""
    text = svg.decode().rpartition("</svg>")[0] + style
    return f"data:image/svg+xml;base64,{base64_text(text.encode())}"


def format_score(value: float) -> str:
    """A score with three digits, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def format_setting(value: object) -> str:
    """A setting as text, similar to YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(format_setting(item) for item in value) or "–"
    return str(value)


def css_color(color: tuple[int, int, int]) -> str:
    """A colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*color)
