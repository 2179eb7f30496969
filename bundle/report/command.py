"""Build the papers and slides in report/ from the results, with LaTeX."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bundle.results import Results

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "latexmk texlive-latex-extra texlive-publishers texlive-fonts-recommended lmodern"
SHARED = ("reproducible.tex", "references.bib")
STYLES = (".sty", ".cls", ".bst")  # files beside a template that LaTeX reads


@dataclass(frozen=True)
class Document:
    """A folder report/<name> with <name>.tex.j2 in it.

    Attributes
    ----------
    pages : tuple of int
        Fewest and most pages allowed.
    without_references : bool
        Whether only the pages before the list of references count.
    """

    pages: tuple[int, int]
    without_references: bool = False


DOCUMENTS = {
    "ieee": Document((4, 5)),
    "neurips": Document((4, 6), without_references=True),
    "slides": Document((8, 12)),
    "onepage": Document((2, 3)),
}


def add_arguments(verbs) -> None:
    """Declare `python -m bundle report`."""
    parser = verbs.add_parser("report", help="build papers and slides from the results", description=__doc__)
    parser.add_argument(
        "document", nargs="?", default="all", choices=[*DOCUMENTS, "all"], help="%(default)s if not given"
    )
    parser.add_argument(
        "--results", type=Path, default=ROOT / "report/results", help="folder of results (report/results)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "report", help="folder for what is made (report)")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Build what is asked for; 0 when all checks passed, 1 when one is refused, 2 when there is nothing to read."""
    from bundle.report import authors as report_authors
    from bundle.results import read

    names = list(DOCUMENTS) if options.document == "all" else [options.document]
    names = [name for name in names if template(name).is_file()]
    try:
        team = report_authors.read(ROOT / "report" / "authors.toml")
        results = read(options.results)
        results.main()
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    failed = False
    for name in names:
        try:
            made, wrong = build(write(name, results, team, options.out), options.out / name / f"{name}.pdf")
        except (OSError, ValueError) as error:
            made, wrong = None, [str(error)]
        failed |= bool(wrong)
        for line in wrong:
            print(f"REFUSED {name}: {line}")
        if not wrong:
            print(f"{name}: {made}")
    if open_lines := report_authors.placeholders(team):
        print(f"report/authors.toml still holds placeholders: {'; '.join(open_lines)}")
    return 1 if failed else 0


def template(name: str) -> Path:
    """Where a document is written."""
    return ROOT / "report" / name / f"{name}.tex.j2"


def write(name: str, results: Results, team: dict, out: Path) -> Path:
    """Write a document's LaTeX with all that it reads, figures and styles, into a folder of its own; its main file.

    Raises
    ------
    FileNotFoundError, ValueError
        If it shows something that the results lack; the message says what, and what brings it.
    """
    from bundle.report import figures, templates
    from bundle.report.findings import Findings

    folder = out / "generated" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = template(name)
    styles = [path for path in source.parent.iterdir() if path.suffix in STYLES]
    for path in (*styles, *(source.parents[1] / shared for shared in SHARED)):
        shutil.copyfile(path, folder / path.name)
    tasks = {task: Findings(results, found) for task, found in results.main().items()}
    gallery = figures.Gallery(folder, ROOT / "figures")
    text = templates.render(source, tasks=tasks, results=results, team=team, gallery=gallery)
    main = folder / f"{name}.tex"
    main.write_text(text, encoding="utf-8")
    return main


def build(main: Path, target: Path) -> tuple[Path, list[str]]:
    """Run LaTeX, check what comes out, and put it into its place when nothing is wrong.

    Returns `target` and what is wrong; when something is, the PDF that was there stays.
    """
    from bundle.report import check
    from helpers.files import replacing

    if not shutil.which("latexmk"):
        why_not = f"LaTeX is not installed (no latexmk). Install: sudo apt install {PACKAGES}."
        return target, [f"{why_not} Or build {main} elsewhere: its folder holds all that it reads."]
    # No personal latexmkrc; unbroken log lines; a fixed date: the same sources give the same bytes
    environment = os.environ | {"max_print_line": "1000", "SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
    latexmk = ["latexmk", "-norc", "-pdf", "-interaction=nonstopmode", "-file-line-error", "-halt-on-error"]
    done = subprocess.run([*latexmk, main.name], cwd=main.parent, env=environment, capture_output=True)
    path, made = main.with_suffix(".log"), main.with_suffix(".pdf")
    log = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else done.stdout.decode(errors="replace")
    if done.returncode or not made.is_file():
        wrong = [why(check.why_failed(log))]
    else:
        document = DOCUMENTS[main.stem]
        wrong = [*check.log_problems(log), *check.problems(made, document.pages, document.without_references)]
    if wrong:
        return target, [*wrong, f"the log: {path}"]
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        shutil.copyfile(made, temporary)
    return target, []


def why(message: str) -> str:
    """What LaTeX says, with what to do about a package it does not find."""
    return f"{message}. Install: sudo apt install {PACKAGES}" if message.endswith(STYLES) else message
