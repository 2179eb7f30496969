"""Pages of their own for a browser, from jinja2 templates: nothing from elsewhere and no script, light and dark.

What a template is given is escaped: a page that carried a stranger's markup would be the stranger's page.
"""

from __future__ import annotations

from pathlib import Path

import jinja2

MARKS = {"pass": "✓", "fail": "✗"}


def render(template: Path, **content) -> str:
    """A page from a template that extends `frame.html.j2`; an unknown name in it is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["figure"] = figure
    return environment.get_template(template.name).render(MARKS=MARKS, **content)


def figure(value: float | str | None, digits: int = 3) -> str:
    """A number with its decimals; a count or text as it is, "–" for nothing."""
    return "–" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)
