"""What a finished PDF and its log must show before it takes the place of the one there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pypdf import PdfReader
from pypdf.generic import DictionaryObject

OVERFULL = 5.0  # points by which a line or page may run over before a reader sees it
OVER = re.compile(r"^Overfull \\[hv]box \((\d+\.?\d*)pt too (?:wide|high)\).*", re.MULTILINE)
UNDEFINED = re.compile(r"(?:Reference|Citation) [`'](.+?)'.*undefined")
FILE_MISSING = re.compile(r"(?:LaTeX Error: |! )File `(.+?)' not found")
FAILED = re.compile(r"^(?:.+?:\d+: |! ).+", re.MULTILINE)
HEADING = re.compile(r"^\s*(?:\d+\s*)?references\s*$", re.IGNORECASE | re.MULTILINE)
TOP = 60  # letters above a heading that still stands at the top of its page: running head and page number


def problems(pdf: Path, pages: tuple[int, int], without_references: bool = False) -> Iterator[str]:
    """What is wrong with a PDF, in words: number of pages, fonts that are not embedded, open references.

    Parameters
    ----------
    pdf : Path
    pages : tuple of int
        Fewest and most pages allowed.
    without_references : bool
        Count only the pages before the list of references.
    """
    reader = PdfReader(pdf)
    texts = [page.extract_text() for page in reader.pages]
    count = body_pages(texts) if without_references else len(texts)
    what = "pages before the references" if without_references else "pages"
    if not pages[0] <= count <= pages[1]:
        mend = "Shorten the text or its figures." if count > pages[1] else "Write more."
        yield f"{count} {what}, expected {pages[0]} to {pages[1]}. {mend}"
    for number, text in enumerate(texts, 1):
        if "??" in text:
            around = text[max(text.index("??") - 40, 0) : text.index("??") + 20].replace("\n", " ")
            yield f"page {number}: an open reference prints ??, near '{around.strip()}'."
    for number, page in enumerate(reader.pages, 1):
        if loose := sorted(set(_not_embedded(page.get("/Resources")))):
            yield f"page {number}: fonts not embedded: {', '.join(loose)}. Draw the figure again with embedded fonts."


def body_pages(texts: list[str]) -> int:
    """Pages before the list of references; all when there is none."""
    for number, text in enumerate(texts):
        if found := list(HEADING.finditer(text)):
            return number if len(text[: found[-1].start()].strip()) <= TOP else number + 1
    return len(texts)


def _not_embedded(resources, seen: set | None = None) -> Iterator[str]:
    """Names of fonts without a file in a page's resources, and in those of the figures on it."""
    seen = set() if seen is None else seen
    resources = resources.get_object() if resources is not None else DictionaryObject()
    if id(resources) in seen:
        return
    seen.add(id(resources))
    for name, reference in (resources.get("/Font") or DictionaryObject()).get_object().items():
        font = reference.get_object()
        if font.get("/Subtype") == "/Type3":
            continue  # its glyphs are drawn in the file itself
        inner = font["/DescendantFonts"].get_object()[0].get_object() if "/DescendantFonts" in font else font
        descriptor = (inner.get("/FontDescriptor") or DictionaryObject()).get_object()
        if not {"/FontFile", "/FontFile2", "/FontFile3"} & set(descriptor):
            yield str(font.get("/BaseFont", name)).lstrip("/")
    for reference in (resources.get("/XObject") or DictionaryObject()).get_object().values():
        yield from _not_embedded(reference.get_object().get("/Resources"), seen)


def log_problems(log: str) -> Iterator[str]:
    """What LaTeX's log complains of that a reader would see: overfull boxes, undefined references."""
    for found in OVER.finditer(log):
        if float(found[1]) > OVERFULL:
            yield f"a box is {found[1]} pt too large, at most {OVERFULL:g} pt are allowed: {found[0]}"
    for name in sorted(set(UNDEFINED.findall(log))):
        yield f"'{name}' is referred to or cited, and is not there."


def why_failed(log: str) -> str:
    """Why LaTeX stopped, from its log."""
    if missing := FILE_MISSING.search(log):
        return f"LaTeX does not find the file {missing[1]}"
    found = FAILED.search(log)
    return found[0] if found else "LaTeX stopped without saying why"
