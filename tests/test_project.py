"""Rules that hold for the whole project: layout, layers, style, size, no path of one machine."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = [path for path in subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
    check=True,
).stdout.split("\0") if path]  # fmt: skip
# Arrows between packages, and inside helpers: what a module may import, beside those of its own row
PACKAGES = {"demo": (), "helpers": ("demo",), "predict": ("helpers",), "bundle": ("helpers", "demo"),
            "benchmarks": ("helpers", "demo")}  # fmt: skip
LAYERS = (
    ("tasks", "audio", "files"), ("data", "features", "metrics", "augment"), ("plots", "diagram", "models", "probes"),
    ("tuning", "svm", "training", "weights"), ("inference",), ("experiment",),
)  # fmt: skip
MODULES = {
    path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): ROOT / path
    for path in FILES if path.endswith(".py") and path.split("/")[0].removesuffix(".py") in PACKAGES
    and "/templates/" not in path
}  # fmt: skip


def imported(path: Path) -> set[str]:
    """Modules of the project that a file imports anywhere in it, such as "helpers.audio"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(MODULES)


def test_imports_go_one_way():
    assert len(MODULES) > 50
    layer = {name: number for number, row in enumerate(LAYERS) for name in row}
    for name, path in MODULES.items():
        parts = name.split(".")
        for other in imported(path):
            there = other.split(".")
            assert there[0] in (parts[0], *PACKAGES[parts[0]]), f"{name} imports {other}"
            if parts[0] == there[0] == "helpers" and len(parts) > 1 < len(there):
                assert layer[there[1]] <= layer[parts[1]], f"{name} imports {other}"


def test_the_notebooks_import_helpers_and_nothing_else_of_ours():
    seen = 0
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        code = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        found = {name for name in re.findall(r"^\s*(?:from|import) (\w+)", "\n".join(code), re.M) if name in PACKAGES}
        assert found == {"helpers", "bundle"}, path
        ours = re.findall(r"^\s*(?:from|import) (bundle.*)", "\n".join(code), re.M)
        assert ours == ["bundle.install import prepare"]  # which needs no package, and brings those that lack
        seen += 1
    assert seen == 5


def test_there_is_no_circle():
    known = {name: imported(path) - {name} for name, path in MODULES.items()}

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " imports ".join((*above[above.index(name) :], name))
        for other in sorted(known[name]):
            visit(other, (*above, name))
        known[name] = set()  # nothing below it leads back

    for name in MODULES:
        visit(name, ())


def test_importing_a_module_does_nothing():
    """No random number, no setting, no output, no process, nothing written, whichever module it is."""
    program = """
import random, sys, importlib, os, matplotlib, numpy, torch
events = []
def audit(event, given):
    written = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
    if written or event in ("subprocess.Popen", "os.system", "os.mkdir", "socket.connect"):
        events.append((event, str(given[0])))
def state():
    return (torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate(),
            dict(matplotlib.rcParams), torch.get_num_threads())

before = state()
for name in sys.argv[1:]:
    sys.addaudithook(audit) if name == sys.argv[1] else None
    importlib.import_module(name)
    assert state() == before, name
ours = [event for event in events if os.getcwd() in event[1] or event[0] not in ("open", "os.mkdir")]
assert not ours, ours
"""
    names = [name for name in MODULES if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, *names], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_nothing_branches_on_the_name_of_a_task():
    names = re.compile(r"(==|!=|\bin\b)\s*[(\[{]?\s*[\"'](nsynth|magnatagatune|languages)[\"']")
    sources = [
        path for path in FILES if path.startswith(("helpers/", "notebooks/")) and path.endswith((".py", "ipynb"))
    ]
    assert len(sources) > 15
    for path in sources:
        assert not names.search((ROOT / path).read_text()), path


def test_ruff_finds_nothing():
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_names_one_machine():
    pattern = re.compile(r"(?<![\w.~-])/(work|root|home)/|\.\./shared")
    for path in FILES:
        if path != ".ci/run" and (ROOT / path).suffix in (".py", ".md", ".txt", ".toml", ".ipynb", ".json", ""):
            assert not pattern.search((ROOT / path).read_text()), path


def test_the_repository_stays_small():
    assert sum((ROOT / path).stat().st_size for path in FILES) < 60 * 2**20


def test_every_requirement_is_pinned_and_says_who_needs_it():
    for path in ROOT.glob("requirements*.txt"):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        assert lines
        for line in lines:
            assert re.fullmatch(r"[\w-]+==[\w.]+ +# \S.*", line), f"{path.name}: {line}"
