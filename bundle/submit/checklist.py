"""A brief's checklist for a hand-in about to be written: the grader's own rules, and what only its author can mend."""

from __future__ import annotations

import json
import re
import tempfile
import textwrap
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from bundle.grade.checks import FAIL, PASS, some
from bundle.grade.rubric import RULES, SAFETY, inspect
from bundle.grade.submission import TEXT_BYTES, Submission
from bundle.grade.unpack import unpack
from bundle.submit.handin import HANDINS, Pack

OK, MISSING, REFUSED, LOOK = "ok", "missing", "refused", "look"  # LOOK: nobody but a person can say
FACE = "The author's face is in the video"
# Folders in which people live; documentation may name others
PLACES = r"(?<![\w.~/-])/(?:home|Users|root|mnt/[a-z]/Users)/[\w.-]+|\b[A-Z]:\\\\?Users\\"
TEXTS = (".py", ".ipynb", ".md", ".txt", ".json", ".toml", ".sbatch", ".sh", ".tex", ".css", ".html", ".yaml", ".yml")


@dataclass(frozen=True)
class Row:
    """One line: what is asked, the evidence, and OK, MISSING, REFUSED or LOOK."""

    asked: str
    evidence: str
    state: str


def check(pack: Pack, archive: bytes, brief: str, identity: str, root: Path) -> list[Row]:
    """Unpack `archive` with what lies beside it into a scratch folder, and judge it as a grader would."""
    rows = [*_files(pack), *_places(pack, root), _authors(root, brief, identity)]
    with tempfile.TemporaryDirectory() as scratch:
        folder, loose, told = (Path(scratch) / name for name in ("zip", "loose", "rows.jsonl"))
        loose.mkdir()
        packed = Path(scratch) / pack.archive
        packed.write_bytes(archive)
        unpack(packed, folder)
        for name, path in pack.loose.items():
            (loose / name).symlink_to(path.resolve())
        sub = Submission(folder, pack.archive, loose, _known(pack.task, root))
        rows.append(_named(sub, root))
        inspect(sub, brief, told, seconds=0)
        found = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    for rule, row in zip((*SAFETY, *RULES[brief]), found, strict=False):
        state = {PASS: OK, FAIL: REFUSED if rule.forbids else MISSING}.get(row["state"], LOOK)
        if state == REFUSED and row["evidence"].startswith("no "):  # there is nothing that could be forbidden
            state = MISSING
        rows.append(_face(pack) if rule.asked == FACE else Row(rule.asked, row["evidence"], state))
    return rows


def _files(pack: Pack) -> list[Row]:
    """What could not be taken."""
    rows = [Row("Plain files of a usual size", some(pack.refused), REFUSED)] if pack.refused else []
    made = {f"report/{name}/{name}.pdf": f"report {name}" for name in ("ieee", "neurips", "slides", "onepage")}
    made["report/walkthrough.mp4"] = "video"
    told = [f"{name} is not there" + f" (python -m bundle {made.get(name)})" * (name in made) for name in pack.absent]
    state, words = (
        (MISSING, "; ".join(told)) if told else (OK, f"{len(pack.inside)} in the zip, {len(pack.loose)} beside")
    )
    return [*rows, Row("All files of the hand-in", words, state)]


def _places(pack: Pack, root: Path) -> list[Row]:
    """No text names a folder of this machine."""
    here = [str(place) for place in (root.resolve(), Path.home()) if len(place.parts) > 1]
    pattern = re.compile("|".join([PLACES, *(rf"(?<![\w.~/-]){re.escape(place)}(?![\w-])" for place in here)]))
    found = []
    for name, content in pack.inside.items():
        if (
            name.endswith(TEXTS)
            and len(content) <= TEXT_BYTES
            and (match := pattern.search(content.decode(errors="replace")))
        ):
            found.append(f"{name}: {match[0]}")
    evidence = some(found) if found else "in no script, notebook, description or table"
    return [Row("No path of one machine", evidence, REFUSED if found else OK)]


def _authors(root: Path, brief: str, identity: str) -> Row:
    """report/authors.toml filled in, as far as this brief asks."""
    from bundle.report.authors import placeholders, read

    asked, wanted = "Authors, as report/authors.toml has them", HANDINS[brief].authors
    try:
        authors = read(root / "report" / "authors.toml")
    except (OSError, ValueError) as error:
        return Row(asked, str(error), MISSING)
    alone = len(authors["authors"]) == 1
    left = []
    for words in placeholders(authors):
        about = re.sub(r"^author \d+: ", "", words).removeprefix("not ").split()[0]
        if about in wanted and not (alone and about in ("signed", "statement", "date")):  # nobody to agree with
            left.append(words)
    if brief == "languages" and authors["group"] not in ("0", identity):
        left.append(f"group {authors['group']!r}, but --id {identity}")
    if left:
        return Row(
            asked, f"still placeholders: {some(left, 6)}. Fill them in, then build report and video again", MISSING
        )
    return Row(asked, ", ".join(person["name"] for person in authors["authors"]), OK)


def _named(sub: Submission, root: Path) -> Row:
    """Whether the report was built with the authors as they are now; only letters count, as PDFs split accents off."""
    from bundle.report.authors import read

    def letters(text: str) -> str:
        return "".join(letter for letter in unicodedata.normalize("NFKD", text).lower() if "a" <= letter <= "z")

    asked = "The report names its authors"
    try:
        names = [person["name"] for person in read(root / "report" / "authors.toml")["authors"]]
    except (OSError, ValueError):
        names = []  # the row above says so
    if sub.report is None:
        return Row(asked, "no report in PDF", MISSING)
    absent = [name for name in names if letters(name) not in letters(sub.report.text)]
    if absent:
        return Row(asked, f"{sub.report.name} lacks {some(absent)}: build it again, python -m bundle report", MISSING)
    return Row(asked, f"all {len(names)}", OK)


def _face(pack: Pack) -> Row:
    from bundle.video.film import has_face

    films = [path for name, path in pack.loose.items() if name.endswith(".mp4")]
    if not films:
        return Row(FACE, "no video", MISSING)
    try:
        there = has_face(films[0])
    except (OSError, ValueError, RuntimeError) as error:
        return Row(FACE, f"{films[0].name}: {error}", LOOK)
    if there:
        return Row(FACE, "the video was made with --face", OK)
    return Row(FACE, "not the author's: python -m bundle video --face webcam.mp4", MISSING)


def _known(task: str, root: Path) -> dict:
    """Names and labels of the rendered test recordings, which must not be inside; {} where they are not rendered."""
    from bundle.grade.measure import read_truth
    from helpers.tasks import TASKS

    folder = root / "data" / "demo" / task
    return read_truth(TASKS[task], folder).known(with_audio=False) if folder.is_dir() else {}


def table(rows: list[Row], width: int = 132) -> str:
    """The rows as text in three columns."""
    first = max(len(row.asked) for row in rows)
    lines = []
    for row in rows:
        head = f"{row.state:8} {row.asked:{first}}  "
        lines += textwrap.wrap(row.evidence, width, initial_indent=head, subsequent_indent=" " * len(head)) or [head]
    return "\n".join([f"{'':8} {'requirement':{first}}  evidence", *lines])
