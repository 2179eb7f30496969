"""Rules that hold for the whole project: layout, layers, style, size, no path of one machine."""

import ast
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = [path for path in subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
    check=True,
).stdout.split("\0") if path]  # fmt: skip
# A module may import those that stand before it
LAYERS = (
    "tasks", "audio", "files", "data", "features", "metrics", "augment", "models", "training", "weights", "inference",
    "experiment",
)  # fmt: skip


def imported(path: Path) -> set[str]:
    """Modules of the project that a file imports, such as "helpers.audio"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("helpers", "bundle", "predict")}


def test_helpers_import_only_what_stands_below_them():
    seen = 0
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        layer = path.relative_to(ROOT / "helpers").parts[0].removesuffix(".py")
        for name in imported(path):
            parts = name.split(".")
            assert parts[0] == "helpers", f"{path} imports {name}"
            if layer in LAYERS and len(parts) > 1 and parts[1] in LAYERS:
                assert LAYERS.index(parts[1]) <= LAYERS.index(layer), f"{path} imports {name}"
                seen += 1
    assert seen > 20


def test_importing_helpers_draws_nothing_and_changes_no_setting():
    program = (
        "import sys, torch, random, numpy as np, matplotlib as m; s = torch.get_rng_state(), dict(m.rcParams)\n"
        "n = np.random.get_state()[1].copy(), random.getstate()\n"
        "from helpers import audio, data, experiment, features, inference, metrics, models, plots, tasks, training\n"
        "from helpers import weights\n"
        "assert torch.equal(s[0], torch.get_rng_state()) and s[1] == dict(m.rcParams)\n"
        "assert (n[0] == np.random.get_state()[1]).all() and n[1] == random.getstate()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no such setting")
def test_with_helpers_memory_is_used_again_without_faulting_its_pages_in():
    program = (
        "import resource, numpy as np\n"
        "def use():\n"
        "    for _ in range(20):\n"
        "        held = [np.ones(2**18, np.float32) for _ in range(4)]\n"
        "use()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "use()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    found = [
        int(subprocess.run([sys.executable, "-c", first + program], cwd=ROOT, capture_output=True, text=True).stdout)
        for first in ("", "import helpers\n")
    ]
    assert found[1] < 100 < 10_000 < found[0]  # pages; without it, most of 20 times 4 MiB


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
