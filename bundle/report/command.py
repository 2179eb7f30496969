"""Build the papers and slides in report/ from the results, with LaTeX."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bundle.results import Results

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "latexmk texlive-latex-extra texlive-publishers texlive-fonts-recommended lmodern texlive-luatex"
SHARED = ("reproducible.tex", "references.bib")
STYLES = (".sty", ".cls", ".bst")  # files beside a template that LaTeX reads
# Written in report/<name>/<name>.tex.j2: fewest and most pages; whether only those before the references count
DOCUMENTS = {"ieee": (4, 5, False), "neurips": (4, 6, True), "slides": (8, 12, False), "onepage": (2, 3, False)}


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
    from bundle.report import authors
    from bundle.results import read

    try:
        team = authors.read(ROOT / "report" / "authors.toml")
        results = read(options.results)
        results.main()
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    failed = False
    for name in DOCUMENTS if options.document == "all" else [options.document]:
        target = options.out / name / f"{name}.pdf"
        try:
            wrong = build(write(name, results, team, options.out), target)
        except (OSError, ValueError) as error:
            wrong = [str(error)]
        for line in wrong:
            print(f"REFUSED {name}: {line}")
        if not wrong:
            print(f"{name}: {target}")
        failed |= bool(wrong)
    if left := authors.placeholders(team):
        print(f"report/authors.toml still holds placeholders: {'; '.join(left)}")
    return int(failed)


def write(name: str, results: Results, team: dict, out: Path) -> Path:
    """Write a document's LaTeX with all that it reads, figures and styles, into a folder of its own; its main file.

    A FileNotFoundError or ValueError says what the results lack, and what brings it.
    """
    from bundle.report import figures, letters, templates
    from bundle.report.findings import Findings

    folder, source = out / "generated" / name, ROOT / "report" / name / f"{name}.tex.j2"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    styles = [path for path in source.parent.iterdir() if path.suffix in STYLES]
    for path in (*styles, *(ROOT / "report" / shared for shared in SHARED)):
        shutil.copyfile(path, folder / path.name)
    tasks = {task: Findings(results, found) for task, found in results.main().items()}
    gallery = figures.Gallery(folder, ROOT / "figures")
    text = templates.render(source, tasks=tasks, results=results, team=team, gallery=gallery)
    if strange := letters.strange(team):  # LuaLaTeX prints these, with other fonts beside the usual ones
        with (folder / "reproducible.tex").open("a", encoding="utf-8") as file:
            file.write(letters.fonts(strange))
    main = folder / f"{name}.tex"
    main.write_text(text, encoding="utf-8")
    return main


def build(main: Path, target: Path) -> list[str]:
    """Run LaTeX, check what comes out, and put it into its place, or say what is wrong; then the PDF there stays."""
    from bundle.report import check
    from helpers.files import replacing

    install = f"Install: sudo apt install {PACKAGES}."
    if not shutil.which("latexmk"):
        return [f"LaTeX is not installed (no latexmk). {install} Or build {main} elsewhere: all it reads is there."]
    # No personal latexmkrc; unbroken log lines; a fixed date: the same sources give the same bytes
    environment = os.environ | {"max_print_line": "1000", "SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
    shared = main.with_name("reproducible.tex")
    engine = "-pdflua" if shared.is_file() and "fontspec" in shared.read_text(encoding="utf-8") else "-pdf"
    latexmk = ["latexmk", "-norc", engine, "-interaction=nonstopmode", "-file-line-error", "-halt-on-error"]
    done = subprocess.run([*latexmk, main.name], cwd=main.parent, env=environment, capture_output=True)
    path, made = main.with_suffix(".log"), main.with_suffix(".pdf")
    log = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else done.stdout.decode(errors="replace")
    if done.returncode:
        why = check.FAILED.search(log)
        wrong = [f"{why[0] if why else 'LaTeX stopped'}. For a file that is not found: {install}"]
    else:
        wrong = [*check.log_problems(log), *check.problems(made, *DOCUMENTS[main.stem])]
    if wrong:
        return [*wrong, f"the log: {path}"]
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        shutil.copyfile(made, temporary)
    return []
