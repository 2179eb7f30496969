"""What single briefs ask of a submission: makers of checks, and checks of a report, a video, a name.

As in `bundle.grade.checks`, a check takes a `Submission` and returns (state, evidence).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from bundle.grade.checks import FAIL, OPEN, PASS, Answer, claims, some
from bundle.grade.pickles import WEIGHTS
from bundle.grade.submission import Submission

ROWS = ((1024, 1024), (1024, 512), (512, 512), (512, 256), (256, 256))  # Bristol, 3: length, stride


def has(pattern: str, at_most: int = 99) -> Callable[[Submission], Answer]:
    """A file whose own name matches."""

    def check(sub: Submission) -> Answer:
        found = [path.name for path in sub.matching(pattern)]
        return (PASS if 0 < len(found) <= at_most else FAIL), some(found) or "no such file"

    return check


def uses(pattern: str) -> Callable[[Submission], Answer]:
    """Code that matches."""

    def check(sub: Submission) -> Answer:
        found = sub.mentioning(pattern)
        return (PASS, f"in {some(found, 2)}") if found else (FAIL, "not in any script or notebook")

    return check


def avoids(pattern: str) -> Callable[[Submission], Answer]:
    """No code that matches."""

    def check(sub: Submission) -> Answer:
        found = sub.mentioning(pattern)
        return (FAIL, f"in {some(found, 2)}") if found else (PASS, f"in none of {len(sub.code)} scripts and notebooks")

    return check


def pages(least: int, most: int, without_references: bool = False) -> Callable[[Submission], Answer]:
    """The report's number of pages."""

    def check(sub: Submission) -> Answer:
        if sub.report is None:
            return FAIL, "no report in PDF"
        count, note = len(sub.report.pages), ""
        if without_references:
            for number, text in enumerate(sub.report.pages):
                if match := re.search(r"(?m)^\W*\d*\W*(references|bibliography)\s*$", text, re.IGNORECASE):
                    count, note = number + bool(text[: match.start()].strip()), " before the references"
                    break
        return (PASS if least <= count <= most else FAIL), f"{sub.report.name}: {count} pages{note}"

    return check


def says(*wanted: str, missing: str = FAIL) -> Callable[[Submission], Answer]:
    """The report's text matches every pattern."""

    def check(sub: Submission) -> Answer:
        if sub.report is None:
            return FAIL, "no report in PDF"
        if len(sub.report.text) < 200:
            return OPEN, f"{sub.report.name}: holds no text that can be extracted"
        absent = [pattern.split("|")[0] for pattern in wanted if not re.search(pattern, sub.report.text)]
        return (
            (missing, f"not found: {some(absent)}") if absent else (PASS, f"{len(wanted)} found in {sub.report.name}")
        )

    return check


def by_eye(what: str) -> Callable[[Submission], Answer]:
    """What only a person can judge."""
    return lambda sub: (OPEN, what)


def wide(sub: Submission) -> Answer:
    """Pages of 16:9."""
    if sub.report is None:
        return FAIL, "no report in PDF"
    off = [f"page {number}: {w:.0f} × {h:.0f}" for number, (w, h) in enumerate(sub.report.sizes, 1)
           if abs(w / max(h, 1) - 16 / 9) > 0.02]  # fmt: skip
    return (FAIL, some(off)) if off else (PASS, f"all {len(sub.report.sizes)} pages")


def one_checkpoint(sub: Submission) -> Answer:
    """Exactly one weights file."""
    found = sub.having(*WEIGHTS)
    return (PASS if len(found) == 1 else FAIL), some(found) or "no weights"


def five_rows(sub: Submission) -> Answer:
    """The five (length, stride) rows with an area each."""
    if sub.report is None:
        return FAIL, "no report in PDF"
    absent = [f"{a}/{b}" for a, b in ROWS if not re.search(rf"\b{a}\b\W+{b}\b.{{0,40}}?0?\.\d\d", sub.report.text)]
    return (OPEN, f"not found in the text: {some(absent)}") if absent else (PASS, "five rows, each with a figure")


def shares(sub: Submission) -> Answer:
    """Who did what: more than that all did the same."""
    text = " ".join(sub.report.pages[1:2]).lower() if sub.report else ""
    if not re.search(r"distribution|contribution|role|responsib|who did what", text):
        return FAIL, "page 2 does not tell the work distribution"
    return (PASS, "on page 2") if len(text.split()) >= 40 else (FAIL, "page 2 has fewer than 40 words")


def named_group(sub: Submission) -> Answer:
    """The zip's name."""
    return (PASS if re.fullmatch(r"group_\w+\.zip", sub.archive, re.IGNORECASE) else FAIL), sub.archive


def diagram(sub: Submission) -> Answer:
    """A picture on the content page."""
    if sub.report is None or not sub.report.pictures:
        return FAIL, "no report in PDF"
    count = sub.report.pictures[0]
    return (PASS, f"{count} pictures or drawings on page 1") if count else (OPEN, "none found on page 1; look at it")


def video(sub: Submission) -> Answer:
    """MP4, H.264, at most five minutes: the duration in its `mvhd` box (ISO 14496-12, 8.2.2), its codec `avc1`."""
    found = sub.matching(r".*\.mp4")
    if not found:
        return FAIL, "no .mp4, neither in the zip nor beside it"
    content = found[0].read_bytes()
    at = content.find(b"mvhd") + 4
    if at < 4 or len(content) < at + 28:
        return FAIL, f"{found[0].name}: not an MP4 file"
    long = content[at] == 1
    scale = int.from_bytes(content[at + (20 if long else 12) :][:4])
    seconds = int.from_bytes(content[at + (24 if long else 16) :][: 8 if long else 4]) / max(scale, 1)
    codec = "H.264" if b"avc1" in content else "not H.264"
    good = codec == "H.264" and 0 < seconds <= 300
    return (PASS if good else FAIL), f"{found[0].name}: {seconds:.0f} s, {codec}"


def curves(sub: Submission) -> Answer:
    """Training and validation loss in the results files."""
    found = [content["file"] for content in claims(sub) if content.get("curves")]
    return (PASS, some(found, 2)) if found else (OPEN, "no results file with curves; look at the report")
