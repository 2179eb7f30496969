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
FAILED = re.compile(r"^(?:.+?:\d+: |! ).+", re.MULTILINE)
HEADING = re.compile(r"^\s*(?:\d+\s*)?references\s*$", re.IGNORECASE | re.MULTILINE)
TOP = 60  # letters above a heading that still stands at the top of its page: running head and page number


def problems(pdf: Path, fewest: int, most: int, without_references: bool) -> Iterator[str]:
    """What is wrong with a PDF, in words: number of pages, open references, fonts that are not embedded."""
    pages = PdfReader(pdf).pages
    texts = [page.extract_text() for page in pages]
    count = body_pages(texts) if without_references else len(texts)
    if not fewest <= count <= most:
        mend = "Shorten the text or its figures." if count > most else "Write more."
        what = "pages before the references" if without_references else "pages"
        yield f"{count} {what}, expected {fewest} to {most}. {mend}"
    for number, (page, text) in enumerate(zip(pages, texts, strict=True), 1):
        if found := re.search(r".{0,40}\?\?.{0,20}", text):
            yield f"page {number}: an open reference prints ??, near '{found[0].strip()}'."
        if loose := sorted(set(loose_fonts(page["/Resources"]))):
            yield f"page {number}: fonts not embedded: {', '.join(loose)}. Draw the figure again with embedded fonts."


def body_pages(texts: list[str]) -> int:
    """Pages before the list of references; all when there is none."""
    for number, text in enumerate(texts):
        if found := list(HEADING.finditer(text)):
            return number if len(text[: found[-1].start()].strip()) <= TOP else number + 1
    return len(texts)


def loose_fonts(resources: DictionaryObject) -> Iterator[str]:
    """Names of fonts without a file in a page's resources, and in those of the figures on it."""

    def entries(of: DictionaryObject, name: str) -> list:
        found = of[name] if name in of else {}
        return [found[key] for key in found]  # by [], which follows references

    for font in entries(resources, "/Font"):
        inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
        described = inner["/FontDescriptor"] if "/FontDescriptor" in inner else {}
        # The glyphs of a Type 3 font are drawn in the PDF itself
        if font["/Subtype"] != "/Type3" and not {"/FontFile", "/FontFile2", "/FontFile3"} & set(described):
            yield font["/BaseFont"].lstrip("/")
    for figure in entries(resources, "/XObject"):
        if "/Resources" in figure:
            yield from loose_fonts(figure["/Resources"])


def log_problems(log: str) -> Iterator[str]:
    """What LaTeX's log complains of that a reader would see: overfull boxes, undefined references."""
    for found in OVER.finditer(log):
        if float(found[1]) > OVERFULL:
            yield f"a box is {found[1]} pt too large, at most {OVERFULL:g} pt are allowed: {found[0]}"
    for name in sorted(set(UNDEFINED.findall(log))):
        yield f"'{name}' is referred to or cited, and is not there."
