"""Write the zip, and the files beside it, exactly as a brief asks: equal input gives equal bytes.

The brief's checklist is printed first, with the evidence for each line. What the brief forbids is refused, and then
nothing is written; what is missing is refused too, unless --draft is given. Exit codes: 0 written, 1 refused or
incomplete, 2 wrong command line.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import sys
import zipfile
from pathlib import Path

from bundle.submit.handin import HANDINS, Pack, gather

ROOT = Path(__file__).resolve().parents[2]
FIRST = (1980, 1, 1, 0, 0, 0)  # the oldest date that a zip can say
UNIX, PERMISSIONS = 3, 0o100644 << 16


def add_arguments(verbs) -> None:
    """Declare `python -m bundle submit`."""
    from bundle.grade.rubric import TASK

    parser = verbs.add_parser(
        "submit", help="write the zip that a brief asks for", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--brief", required=True, choices=list(HANDINS))
    parser.add_argument("--id", required=True, help="student number (ntu, ucd), user name (bristol), group (languages)")
    parser.add_argument("--task", choices=sorted(set(TASK.values())), help="for ucd: the task handed in (nsynth)")
    parser.add_argument("--weights", type=Path, metavar="NAME.json", help="the model that predicts (mel_cnn, demo)")
    parser.add_argument("--draft", action="store_true", help="write it though something is missing")
    parser.add_argument("--out", type=Path, help="folder for what is written (runs/submit/<brief>-<id>)")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Print the checklist, and write the hand-in unless it is refused; see the module's exit codes."""
    if options.task and options.brief != "ucd":
        print(f"submit: --task: the brief {options.brief} has its own task. Leave it out.", file=sys.stderr)
        return 2
    out = options.out or ROOT / "runs" / "submit" / f"{options.brief}-{options.id}"
    try:
        return submit(options.brief, options.id, out, options.task or "", options.weights, options.draft)
    except (ValueError, OSError) as error:
        print(f"submit: {error}", file=sys.stderr)
        return 2


def submit(
    brief: str, identity: str, out: Path, task: str = "", weights: Path | None = None, draft: bool = False,
    root: Path = ROOT,
) -> int:  # fmt: skip
    """Gather, check, print and write; see `bundle.submit.handin.gather`. Returns the exit code."""
    from bundle.submit import checklist

    pack = gather(root, brief, identity, task, weights)
    content = archive(pack.inside)
    rows = checklist.check(pack, content, brief, identity, root)
    states = [row.state for row in rows]
    print(f"{brief}, {identity}{': DRAFT, not to be handed in' * (draft and checklist.MISSING in states)}")
    print(checklist.table(rows))
    kinds = (checklist.OK, checklist.MISSING, checklist.REFUSED, checklist.LOOK)
    print(", ".join(f"{states.count(kind)} {kind}" for kind in kinds if kind in states))
    if checklist.REFUSED in states or (checklist.MISSING in states and not draft):
        what = (
            "what the brief forbids" if checklist.REFUSED in states else "something missing (--draft writes it anyway)"
        )
        print(f"Nothing was written: there is {what}.")
        return 1
    for path in write(pack, content, out):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, SHA-256 {digest}…")
    return 0


def archive(files: dict[str, bytes]) -> bytes:
    """A zip of files by name: sorted, without dates, owners or permissions, so that equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, FIRST)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, UNIX, PERMISSIONS
            target.writestr(entry, files[name], compresslevel=9)
    return buffer.getvalue()


def write(pack: Pack, content: bytes, out: Path) -> list[Path]:
    """Write zip and loose files, each under its name only when all are complete."""
    out.mkdir(parents=True, exist_ok=True)
    parts = {out / name: out / f".{name}.part" for name in (pack.archive, *pack.loose)}
    try:
        (out / f".{pack.archive}.part").write_bytes(content)
        for name, source in pack.loose.items():
            shutil.copyfile(source, out / f".{name}.part")
        for final, part in parts.items():
            part.replace(final)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return list(parts)
