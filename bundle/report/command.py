"""Build the documents in report/ from the results: LaTeX, or a page for the browser where there is no LaTeX."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "latexmk texlive-latex-extra texlive-publishers texlive-fonts-recommended"
SHARED = ("facts.tex", "references.bib")
BUILT = (".pdf", ".html")  # of a document's folder: what is made, and so not a source


@dataclass(frozen=True)
class Document:
    """A folder report/<name> with <name>.tex in it.

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

    names = list(DOCUMENTS) if options.document == "all" else [options.document]
    names = [name for name in names if (ROOT / "report" / name / f"{name}.tex").is_file()]
    try:
        authors = report_authors.read(ROOT / "report" / "authors.toml")
        write_generated(options.results, authors, options.out / "generated")
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    with_latex = shutil.which("latexmk") is not None
    if not with_latex:
        print(f"LaTeX is not installed (no latexmk): pages for the browser are written instead. "
              f"For the PDFs: sudo apt install {PACKAGES}")  # fmt: skip
    failed = False
    for name in names:
        try:
            made, wrong = (build if with_latex else build_page)(name, options.out)
        except (OSError, ValueError) as error:
            made, wrong = None, [str(error)]
        failed |= bool(wrong)
        for line in wrong:
            print(f"REFUSED {name}: {line}")
        if not wrong:
            print(f"{name}: {made}")
    if open_lines := report_authors.placeholders(authors):
        print(f"report/authors.toml still holds placeholders: {'; '.join(open_lines)}")
    return 1 if failed else 0


def write_generated(results_folder: Path, authors: dict, out: Path) -> None:
    """Write every fact and table of the results into `out`, and remove what an earlier call wrote."""
    from bundle.report import authors as report_authors
    from bundle.report import facts as report_facts
    from bundle.report import figures as report_figures
    from bundle.report import slides as report_slides
    from bundle.report import tables as report_tables
    from helpers.files import replacing

    results = report_facts.read(results_folder)
    known = all_facts(results, authors)
    files: dict[str, str | bytes] = {"facts.tex": report_facts.as_tex(known)}
    files |= report_tables.files(results) | report_slides.files(results) | report_authors.files(authors)
    files |= report_figures.files(results, ("pdf",) if shutil.which("latexmk") else ("pdf", "png"))
    out.mkdir(parents=True, exist_ok=True)
    for path in out.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink()
    for name, content in files.items():
        with replacing(out / name) as temporary:
            temporary.write_bytes(content if isinstance(content, bytes) else content.encode())


def all_facts(results, authors: dict) -> dict[str, str]:
    """Facts of the results, of the authors, and those of single documents, as plain text by key."""
    from bundle.report import authors as report_authors
    from bundle.report import facts as report_facts
    from bundle.report import slides as report_slides

    return report_facts.facts(results) | report_authors.facts(authors) | report_slides.facts(results)


def build(name: str, out: Path) -> tuple[Path, list[str]]:
    """Run LaTeX on a copy of the document, check what comes out, and put it into its place when nothing is wrong.

    Returns the PDF's path and what is wrong; when something is, the PDF that was there stays.
    """
    from bundle.report import check as report_check
    from helpers.files import replacing

    target = out / name / f"{name}.pdf"
    with tempfile.TemporaryDirectory() as scratch:
        folder = copy_sources(name, out, Path(scratch))
        # No personal latexmkrc; unbroken log lines; a fixed date: the same sources give the same bytes
        environment = os.environ | {"max_print_line": "1000", "SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
        latexmk = ["latexmk", "-norc", "-pdf", "-interaction=nonstopmode", "-file-line-error", "-halt-on-error"]
        done = subprocess.run([*latexmk, f"{name}.tex"], cwd=folder, env=environment, capture_output=True)
        path = folder / f"{name}.log"
        log = (
            path.read_text(encoding="utf-8", errors="replace")
            if path.is_file()
            else done.stdout.decode(errors="replace")
        )
        made = folder / f"{name}.pdf"
        if done.returncode or not made.is_file():
            wrong = [f"{why(report_check.why_failed(log))}. The log: {keep_log(name, log)}"]
        else:
            document = DOCUMENTS[name]
            wrong = [*report_check.log_problems(log)]
            wrong += report_check.problems(made, document.pages, document.without_references)
            if wrong:
                wrong.append(f"the log: {keep_log(name, log)}")
        if not wrong:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                shutil.copyfile(made, temporary)
    return target, wrong


def copy_sources(name: str, out: Path, scratch: Path) -> Path:
    """Copy a document and what it reads into `scratch`, in the same arrangement; returns the document's folder."""
    source, copy = ROOT / "report", scratch / "report"
    copy.mkdir()
    shutil.copytree(source / name, copy / name, ignore=lambda _, names: [one for one in names if one.endswith(BUILT)])
    shutil.copytree(out / "generated", copy / "generated")
    for shared in SHARED:
        shutil.copyfile(source / shared, copy / shared)
    (scratch / "figures").symlink_to(ROOT / "figures")
    return copy / name


def why(message: str) -> str:
    """What LaTeX says, with what to do about a file it does not find."""
    name = message.rpartition(" ")[2]
    if "figures/" in message:
        task, notebook = Path(name).parent.name.split("-")[0], Path(name).name[:2]
        return f"{message}. Make it: python -m bundle run --task {task} --notebook {notebook} --keep"
    if name.endswith((".cls", ".sty", ".bst")):
        return f"{message}. Install: sudo apt install {PACKAGES}"
    return message


def keep_log(name: str, log: str) -> Path:
    """Keep the log of a build that failed where it can be read."""
    path = ROOT / "runs" / "report" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(log, encoding="utf-8")
    return path


def build_page(name: str, out: Path) -> tuple[Path, list[str]]:
    """The document as one self-contained page for the browser."""
    from bundle.report import page as report_html
    from helpers.files import replacing

    target = out / name / f"{name}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        page = report_html.page(copy_sources(name, out, Path(scratch)) / f"{name}.tex")
    if "??" in page:
        return target, ["an open reference or unknown fact prints ??; a study may not have been run."]
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target, []
