"""The notebooks find or bring the bundle wherever they are opened, and Colab keeps its own packages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from bundle import colab, install

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOW = "\nprint(BUNDLE)\nfrom bundle.install import prepare\nprepare()"


@pytest.fixture
def place(tmp_path):
    """An empty folder to work in, outside any bundle."""
    (tmp_path / "content").mkdir()
    return tmp_path / "content"


def fake(folder):
    """A bundle of two files."""
    (folder / "bundle").mkdir(parents=True)
    (folder / "bundle/__init__.py").touch()
    (folder / "bundle/install.py").write_text("def prepare(): print('prepared')\n")
    return folder


def run(place, program=SHOW, **environment):
    """Run the set-up cell in a folder, with a Python that has no bundle of its own; the lines it prints."""
    kept = {name: value for name, value in os.environ.items() if name not in ("BUNDLE", "PYTHONPATH")}
    source = f"import sys\nsys.prefix = {str(place)!r}\n" + colab.setup_cell() + program
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=place, env=kept | environment, capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines(), done.stderr


def test_address_buttons_and_set_up_stand_in_one_place():
    found = colab.address()
    assert found["repository"].startswith("https://github.com/")
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        assert notebook.cells[0].source.startswith(colab.button(path.stem))
        (setup,) = (cell for cell in notebook.cells if "setup" in cell.metadata.get("tags", ()))
        assert setup.source == colab.setup_cell()
    assert colab.button("01_data_exploration") in (ROOT / "README.md").read_text(encoding="utf-8")
    assert found["repository"] in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    lines = [line for line in colab.setup_cell().splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 8
    for path in (path for path in ROOT.rglob("*.py") if not {".venv", "cache", "runs"} & set(path.parts)):
        assert found["repository"] not in path.read_text(encoding="utf-8")


def test_another_address_is_written_everywhere(tmp_path):
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    text = (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
    text = text.replace(colab.address()["repository"], "https://github.com/ada/audio")
    (tmp_path / "pyproject.toml").write_text(text.replace('release = "v1.0"', 'release = "v2"'), encoding="utf-8")
    for _ in range(2):
        colab.write(tmp_path)
    for path in (*sorted((tmp_path / "notebooks").glob("*.ipynb")), tmp_path / "README.md"):
        text = path.read_text(encoding="utf-8")
        assert text.count("/github/ada/audio/blob/v2/notebooks/") == 1
        assert colab.address()["repository"].removeprefix("https://github.com/") not in text


@pytest.mark.parametrize("home", [".", "above", "bundle", "variable"])
def test_a_bundle_that_is_there_is_taken(place, tmp_path, home):
    folder = {".": place, "above": tmp_path, "bundle": place / "bundle", "variable": tmp_path / "elsewhere"}[home]
    fake(folder)
    given = {"BUNDLE": str(folder)} if home == "variable" else {}
    if home == "variable":
        fake(place / "bundle")  # the variable wins
    assert run(place, **given)[0] == [str(folder), "prepared"]
    assert run(place, **given)[0] == [str(folder), "prepared"]


def test_helpers_of_another_course_are_not_taken_for_ours(place, tmp_path):
    (place / "helpers").mkdir()
    (place / "helpers/__init__.py").write_text("raise ImportError('not ours')\n")
    fake(tmp_path / "ours")
    (tmp_path / "ours/helpers").mkdir()
    (tmp_path / "ours/helpers/__init__.py").write_text("name = 'ours'\n")
    program = "\nimport helpers; print(helpers.name)"
    assert run(place, program, BUNDLE=str(tmp_path / "ours")) == (["ours"], "")


@pytest.mark.parametrize("where", [".", "drive/MyDrive"])
def test_a_zip_here_or_on_a_drive_is_unpacked_once(place, tmp_path, where):
    fake(tmp_path / "source/bundle")
    (place / where).mkdir(parents=True, exist_ok=True)
    shutil.make_archive(str(place / where / "bundle"), "zip", tmp_path / "source")
    for _ in range(2):  # as after a restart
        assert run(place)[0] == [str(place / "bundle"), "prepared"]


def test_else_the_release_is_fetched_and_where_there_is_none_a_sentence_says_what_to_do(place, tmp_path):
    git = tmp_path / "bin/git"
    git.parent.mkdir()
    git.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit 1\n')
    git.chmod(0o755)
    printed, told = run(place, PATH=f"{git.parent}:{os.environ['PATH']}")
    assert printed == []
    assert "No bundle here: upload bundle.zip beside this notebook, or set BUNDLE to its folder." in told
    found = colab.address()
    assert (tmp_path / "asked").read_text().split()[-4:] == ["-qb", found["release"], found["repository"], "bundle"]


WANTED = ["torch==2.13.0", "torchaudio==2.11.0", "numpy==2.4.6", "optuna==5.0.0"]


def test_colab_keeps_what_it_has_and_is_told_what_comes(monkeypatch, capsys):
    there, asked = {"torch": "2.11.0+cu130", "torchaudio": "2.11.0", "numpy": "2.1.3"}, []
    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setattr(install, "installed", lambda: there)
    monkeypatch.setattr(install, "requirements", lambda path: ["b==1"] if "demo" in path.name else WANTED)
    monkeypatch.setattr(install.subprocess, "run", lambda command, check: asked.append(command[6:]))
    install.prepare()
    assert asked == [["optuna==5.0.0"], ["--no-deps", "b==1"]]
    said = capsys.readouterr().out
    assert "Installing what Colab lacks, about a minute: optuna, b" in said
    assert "What this runtime writes is lost with it" in said
    there |= {"optuna": "4.0", "b": "1"}
    install.prepare()
    assert len(asked) == 2
    monkeypatch.delitem(sys.modules, "google.colab")
    install.prepare()
    assert capsys.readouterr().out.count("\n") == 1


def test_another_python_is_told_so():
    assert install.wrong_python((3, 10, 1)) == "needs Python 3.11 to 3.13, this is 3.10"
    assert install.wrong_python((3, 14)) == "needs Python 3.11 to 3.13, this is 3.14"
    assert [install.wrong_python((3, minor)) for minor in (11, 12, 13)] == ["", "", ""]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"Needs Python 3\.11 to 3\.13", readme)
