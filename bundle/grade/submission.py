"""A stranger's unpacked submission as the rules see it: files, code, notebooks, report. Nothing of it is run here."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

TEXT_BYTES = 20 << 20  # larger files are not read as text
CODE = (".py", ".ipynb")


@dataclass(frozen=True)
class Report:
    """A PDF: its name, the text of each page, width and height of each page in points, pictures on each page."""

    name: str
    pages: list[str]
    sizes: list[tuple[float, float]]
    pictures: list[int]

    @cached_property
    def text(self) -> str:
        """All pages, in lower case, white space folded."""
        return " ".join(" ".join(self.pages).lower().split())


@dataclass
class Submission:
    """An unpacked submission.

    Attributes
    ----------
    folder : Path
        What the zip was unpacked to.
    archive : str
        Name of the zip.
    loose : Path
        Folder with the files handed in beside the zip; may be missing.
    known : dict
        The grader's test recordings: "files" and "samples" (digests), "names" (stem to label names).
    """

    folder: Path
    archive: str
    loose: Path
    known: dict = field(default_factory=dict)

    @cached_property
    def root(self) -> Path:
        """The folder that holds the files: a single folder at the top is entered."""
        root = self.folder
        while len(inside := list(root.iterdir())) == 1 and inside[0].is_dir():
            root = inside[0]
        return root

    @cached_property
    def files(self) -> list[str]:
        """Names of all files under `root`, sorted."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())

    def having(self, *suffixes: str) -> list[str]:
        """The files with one of these suffixes."""
        return [name for name in self.files if name.lower().endswith(suffixes)]

    def matching(self, pattern: str) -> list[Path]:
        """Files whose own name, without folders, matches a regular expression; those beside the zip last."""
        wanted = re.compile(pattern, re.IGNORECASE)
        found = [self.root / name for name in self.files] + sorted(self.loose.glob("*"))
        return [path for path in found if wanted.fullmatch(path.name)]

    def text(self, name: str) -> str:
        """A file as text; "" when it is too large for one."""
        path = self.root / name
        return path.read_text("utf-8", errors="replace") if path.stat().st_size <= TEXT_BYTES else ""

    @cached_property
    def code(self) -> dict[str, str]:
        """Source text of every script and of every notebook's code cells, by name."""
        found = {}
        for name in self.having(*CODE):
            if name.endswith(".py"):
                found[name] = self.text(name)
                continue
            try:
                cells = json.loads(self.text(name))["cells"]
                sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
                found[name] = "\n".join(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source) for source in sources)
            except (ValueError, KeyError, TypeError, RecursionError):
                found[name] = ""  # the rule on notebooks says so
        return found

    @cached_property
    def trees(self) -> tuple[dict[str, ast.Module], dict[str, str]]:
        """Syntax trees of the scripts and notebooks that are Python, and why the others are not."""
        good, bad = {}, {}
        for name, source in self.code.items():
            try:
                good[name] = ast.parse(source)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                bad[name] = f"{type(error).__name__}: {str(error)[:80]}"
        return good, bad

    def mentioning(self, pattern: str) -> list[str]:
        """Scripts, notebooks and batch scripts whose text matches a regular expression."""
        texts = self.code | {name: self.text(name) for name in self.having(".sh", ".sbatch", ".slurm", ".job")}
        return [name for name, text in texts.items() if re.search(pattern, text)]

    def imports(self, name: str) -> set[str]:
        """Top-level packages that a script imports, it and the scripts of the submission that it imports."""
        found, seen, open_names = set(), set(), [name]
        while open_names:
            current = open_names.pop()
            if current in seen or current not in self.trees[0]:
                continue
            seen.add(current)
            for node in ast.walk(self.trees[0][current]):
                modules = []
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    base = node.module or ""
                    if node.level:  # relative to the script's own folder
                        above = Path(current).parts[: -node.level]
                        base = ".".join([*above, base]) if base else ".".join(above)
                    modules = [base, *(f"{base}.{alias.name}" for alias in node.names)]
                for module in modules:
                    parts = module.split(".")
                    local = [
                        option
                        for length in range(1, len(parts) + 1)
                        for option in ("/".join(parts[:length]) + ".py", "/".join(parts[:length]) + "/__init__.py")
                        if option in self.trees[0]
                    ]
                    open_names += local
                    if not local:
                        found.add(parts[0])
        return found - {""}

    @cached_property
    def report(self) -> Report | None:
        """The PDF that is the report: the one called so, else the longest outside figures/; None without any."""
        from pypdf import PdfReader

        found = []
        for path in self.matching(r".*\.pdf"):
            if "figures" in path.parts or re.fullmatch(r"readme\.pdf", path.name, re.IGNORECASE):
                continue
            reader = PdfReader(path)
            called = bool(re.search("report|paper|final", path.name, re.IGNORECASE))
            found.append(((called, len(reader.pages)), path, reader))
        if not found:
            return None
        _, path, reader = max(found, key=lambda entry: entry[0])
        pages = list(reader.pages)[:50]
        sizes = [(float(page.mediabox.width), float(page.mediabox.height)) for page in pages]
        drawn = [sum(entry.get("/Subtype") in ("/Image", "/Form") for entry in _objects(page)) for page in pages]
        return Report(path.name, [page.extract_text() for page in pages], sizes, drawn)


def _objects(page) -> list:
    """Pictures and drawings of a page: its XObjects."""
    resources = page.get("/Resources")
    named = resources.get_object().get("/XObject") if resources is not None else None
    return [entry.get_object() for entry in named.get_object().values()] if named is not None else []
