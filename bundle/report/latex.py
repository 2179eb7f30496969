"""Pieces of LaTeX as text: arguments in braces, environments, short formulas."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

SIGNS = {"~": "\u00a0", "---": "—", "--": "–", "``": "“", "''": "”", "`": "‘", "'": "’", "\\,": "\u202f", "\\ ": " "}
SYMBOLS = {
    "pm": "±", "times": "×", "cdot": "·", "leq": "≤", "geq": "≥", "approx": "≈", "rightarrow": "→", "to": "→",
    "lceil": "⌈", "rceil": "⌉", "alpha": "α", "gamma": "γ", "textbackslash": "\\", "textasciitilde": "~", "And": " · ",
    "textasciicircum": "^", "textless": "<", "textgreater": ">", "quad": " ", "qquad": " ", "and": " · ",
    "ldots": "…", "bullet": "•", "dots": "…", "checkmark": "✓",
}  # fmt: skip


def group(text: str, position: int) -> tuple[str, int]:
    """What stands in the braces that open at or after `position`, and where they have closed."""
    start = text.index("{", position)
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "{}" and text[place - 1] != "\\":
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return text[start + 1 : place], place + 1
    raise ValueError(f"a brace is not closed: {text[start : start + 60]!r}. Close it.")


def groups(text: str, position: int, count: int) -> tuple[list[str], int]:
    """`count` arguments in braces, one after another, and where the last has ended."""
    found = []
    for _ in range(count):
        content, position = group(text, position)
        found.append(content)
    return found, position


def closing(text: str, name: str, position: int) -> int:
    r"""Where the \end stands that closes an environment opened before `position`."""
    depth = 1
    for found in re.finditer(rf"\\(begin|end)\{{{re.escape(name)}\}}", text[position:]):
        depth += 1 if found[1] == "begin" else -1
        if depth == 0:
            return position + found.start()
    raise ValueError(f"\\begin{{{name}}} is not closed. Close it.")


def formula(text: str) -> str:
    """A short formula as text."""
    text = re.sub(r"\\text\{(.*?)\}", r"\1", text)
    text = re.sub(r"\\([A-Za-z]+)\s?", lambda found: SYMBOLS.get(found[1], found[1]), text)
    return html.escape(text.replace("-", "−").replace("{", "").replace("}", "").replace("\\,", "\u202f"))


def references(cited: list[str], entries: dict[str, str], render: Callable[[str], str]) -> str:
    """The list of references as HTML, in the order in which they were cited; `entries` are BibTeX fields by key."""
    lines = []
    for name in cited:
        fields = dict(re.findall(r"(\w+) = \{(.*?)\},?\n", entries.get(name, ""), re.DOTALL))
        place = fields.get("booktitle") or fields.get("journal") or fields.get("publisher", "")
        authors = re.sub(r"\s+", " ", fields.get("author", name)).replace(" and ", "; ").replace(r"\"o", "ö")
        words = f"{authors}: {fields.get('title', '')}. {place}, {fields.get('year', '')}."
        lines.append(f"<li>{render(words)}</li>")
    return f"\n<h2>References</h2>\n<ol>{''.join(lines)}</ol>\n"


def numbered(text: str) -> dict[str, int]:
    """The number of the figure, table or section that each label stands in."""
    counts, here, labels = dict.fromkeys(("figure", "table", "section"), 0), "section", {}
    for found in re.finditer(r"\\(begin|end)\{(figure|table)\*?\}|\\(section)\{|\\label\{(.*?)\}", text):
        edge, block, section, label = found.groups()
        if label:
            labels[label] = counts[here]
        elif edge == "end":
            here = "section"
        else:
            here = block or section
            counts[here] += 1
    return labels
