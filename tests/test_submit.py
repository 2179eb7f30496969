"""python -m bundle submit: each brief gets its files, the same bytes each time, running where they are unpacked."""

import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bundle.__main__ import main
from bundle.grade import torchscript
from bundle.grade.submission import Submission
from bundle.submit import checklist, handin
from bundle.submit import command as submit
from bundle.video import film
from helpers import models, weights
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
IDS = {"ntu": "r12345678", "bristol": "ab12345", "ucd": "12345678", "languages": "7"}
TASK = {"ntu": "nsynth", "bristol": "magnatagatune", "ucd": "nsynth", "languages": "languages"}
AUTHORS = """
group = "7"
date = "2 March 2026"
video = "https://example.org/ours"
drive = "https://example.org/our-drive"
statement = "We contributed equally."
[[authors]]
name = "Ada Lovelace"
username = "al12345"
number = "12345678"
email = "ada@example.com"
signed = "Ada Lovelace"
roles = ["read the data"]
[[authors]]
name = "Emmy Noether"
username = "en12345"
number = "12345679"
email = "emmy@example.com"
signed = "Emmy Noether"
roles = ["trained the networks"]
"""
SECTIONS = """Ada Lovelace, Emmy Noether. Abstract Introduction Related work Dataset Experimental setup Architecture
Implementation Replicating Quantitative results Training curves Qualitative results Improvements Conclusion Discussion.
Confusion matrix, top-1 and top-3 accuracy, inputs with and without the log. We contributed equally. References.
1024 1024 0.81 1024 512 0.81 512 512 0.81 512 256 0.81 256 256 0.81."""
ROLES = "Work distribution: Ada Lovelace read the data, Emmy Noether trained the networks and wrote about them. " * 8
# An MP4's boxes with duration and codec, as much as a check reads
FILM = b"\0\0\0\x6cmvhd" + bytes(12) + (1000).to_bytes(4) + (200_000).to_bytes(4) + bytes(40) + b"avc1"


def write_pdf(path, pages, size=(8.3, 11.7)):
    """A PDF of text pages with a drawing each; the same bytes each time."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with PdfPages(path, metadata={"CreationDate": None}) as file:
        for page in range(pages):
            figure = Figure(figsize=size)
            text = ROLES if page == 1 else SECTIONS
            figure.text(0.02, 0.5, textwrap.fill(text, 80), fontsize=6)
            figure.subplots().plot([0, 1], "o")
            file.savefig(figure)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A student's bundle, without .git: this one's code, some weights and results, stand-ins for reports and video."""
    folder = tmp_path_factory.mktemp("student") / "bundle"
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("demo", "helpers", "bundle", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for path in (ROOT / "predict.py", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, folder)
    (folder / "slurm").mkdir()
    (folder / "slurm/train.sbatch").write_text("#!/bin/bash\n#SBATCH --time=1:00:00\nsrun python -m bundle train\n")
    for task in TASKS:
        place = f"{task}-demo"
        for name in ("mel_cnn", "raw_cnn_256_256"):
            for end in ("pt", "json", "md"):
                (folder / "weights" / place).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / f"weights/{place}/{name}.{end}", folder / "weights" / place)
        shutil.copytree(ROOT / "report/results" / place, folder / "report/results" / place)
    shutil.copy(ROOT / "report/results/README.md", folder / "report/results")
    about = {"task": "nsynth", "classes": ["bass", "brass"], "data": "demo", "seed": 0}
    parts = {"mean": 3, "scale": 3, "points": (2, 3), "weights": (2, 2), "bias": 2, "gamma": ()}
    machine = models.KernelMachine(**{name: np.ones(shape, np.float32) for name, shape in parts.items()})
    weights.save(folder / "weights/nsynth-demo", "svm", machine, about)
    for name, pages, size in (("ieee", 5, (8.3, 11.7)), ("neurips", 6, (8.3, 11.7)), ("slides", 9, (8, 4.5)),
                              ("onepage", 3, (8.3, 11.7))):  # fmt: skip
        write_pdf(folder / f"report/{name}/{name}.pdf", pages, size)
    (folder / "report/walkthrough.mp4").write_bytes(FILM)
    (folder / "report/authors.toml").write_text(AUTHORS)
    return folder


@pytest.fixture
def bundle(whole, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(whole, tmp_path / "changed")


@pytest.fixture(autouse=True)
def face(monkeypatch):
    """The stand-in for the video was made with the author's face."""
    monkeypatch.setattr(film, "has_face", lambda path: path.read_bytes() == FILM)


@pytest.fixture(scope="session")
def handed_in(whole, tmp_path_factory):
    """handed_in(brief) -> folder with what was written for it, and what was printed; made once."""
    done = {}

    def call(brief, capsys):
        if brief not in done:
            out = tmp_path_factory.mktemp(brief)
            assert submit.submit(brief, IDS[brief], out, root=whole) == 0, capsys.readouterr().out
            done[brief] = out, capsys.readouterr().out
        return done[brief]

    return call


ZIPS = {"ntu": "r12345678_code.zip", "bristol": "ab12345.zip", "ucd": "12345678.zip", "languages": "group_7.zip"}
COMMON = {"README.txt", "demo", "helpers", "notebooks", "predict.py", "report", "requirements.txt"}
TOP = {
    "ntu": COMMON | {"requirements-training.txt", "weights"},
    "bristol": COMMON | {"bundle", "slurm", "weights", "report.pdf", "requirements-demo.txt"},
    "ucd": COMMON | {"bundle", "weights", "paper.pdf", "requirements-demo.txt"},
    "languages": COMMON | {"mel_cnn.pt", "report.pdf", "requirements-training.txt"},
}
BESIDE = {"ntu": {"r12345678_report.pdf"}, "bristol": set(), "ucd": {"12345678_video.mp4"}, "languages": set()}


@pytest.mark.parametrize("brief", IDS)
def test_each_brief_gets_its_files_and_no_others(brief, handed_in, capsys):
    out, printed = handed_in(brief, capsys)
    assert {path.name for path in out.iterdir()} == BESIDE[brief] | {ZIPS[brief]}
    with zipfile.ZipFile(out / ZIPS[brief]) as opened:
        names, content = opened.namelist(), {name: opened.read(name) for name in opened.namelist()}
        assert {entry.date_time for entry in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {stat.S_IMODE(entry.external_attr >> 16) for entry in opened.infolist()} == {0o644}
    assert {name.split("/")[0] for name in names} == TOP[brief]
    assert names == sorted(names)
    assert not [name for name in names if re.search(r"__pycache__|\.pyc|\.git|\.wav|\.npy$|\.sock|figures/", name)]
    models = {Path(name).name for name in names if name.endswith((".pt", "/svm.npz"))}
    networks = {"mel_cnn.pt", "raw_cnn_256_256.pt"}
    expected = {
        "ntu": {"mel_cnn.pt"},
        "bristol": networks,
        "ucd": networks | {"svm.npz"},
        "languages": {"mel_cnn.pt"},
    }
    assert models == expected[brief]
    assert {Path(name).parent.name.split("-")[0] for name in names if name.startswith("weights/")} <= {TASK[brief]}
    assert not re.search(r"[{}]", content["README.txt"].decode())
    needed = content["requirements.txt"].decode()
    assert ("papermill" in needed) == (brief in ("bristol", "ucd"))
    if brief == "languages":
        assert [line.split("==")[0] for line in needed.splitlines()[1:]] == ["torch", "numpy", "soundfile"]
    states = {line.split()[0] for line in printed.splitlines()[2:] if line[:1].isalpha() and line[8:9] == " "}
    assert states <= {"ok", "look"}
    assert f"{ZIPS[brief]}: " in printed
    assert "DRAFT" not in printed


PACKING = """
import os
from pathlib import Path
from bundle.submit import command as submit, handin
os.umask(0o077)
for brief, identity in (("ntu", "r12345678"), ("languages", "7")):
    pack = handin.gather(submit.ROOT, brief, identity)
    submit.write(pack, submit.archive(pack.inside), Path("runs") / brief)
"""


def test_equal_input_gives_equal_bytes_elsewhere(handed_in, bundle, capsys):
    for path in bundle.rglob("*"):
        os.utime(path, (1, 1))
    (bundle / "helpers/__pycache__").mkdir()
    (bundle / "helpers/__pycache__/audio.cpython-311.pyc").write_bytes(b"left by a run")
    (bundle / "notebooks/.ipynb_checkpoints").mkdir()
    (bundle / "notebooks/.ipynb_checkpoints/01-checkpoint.ipynb").write_text("left by an editor")
    (bundle / "predict.py").chmod(0o700)
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", PACKING], cwd=bundle, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for brief in ("ntu", "languages"):
        out, _ = handed_in(brief, capsys)
        names = [path.name for path in out.iterdir()]
        assert sorted(names) == sorted(path.name for path in (bundle / "runs" / brief).iterdir())
        for name in names:
            assert (bundle / "runs" / brief / name).read_bytes() == (out / name).read_bytes(), name


@pytest.mark.parametrize("brief", IDS)
def test_the_unpacked_zip_predicts_with_the_command_of_its_readme(brief, handed_in, toy, tmp_path, capsys):
    out, _ = handed_in(brief, capsys)
    with zipfile.ZipFile(out / ZIPS[brief]) as opened:
        opened.extractall(tmp_path / "unpacked")
    text = (tmp_path / "unpacked/README.txt").read_text()
    assert "pip install -r requirements.txt" in text
    command = re.search(r"(?m)^ +(python predict\.py .*)$", text)[1].split()
    command[command.index("--data") + 1] = str(toy / TASK[brief])
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    place = {"cwd": tmp_path / "unpacked", "env": surroundings, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, *command[1:]], **place)
    assert done.returncode == 0, done.stderr
    assert re.search("roc_auc 0" if brief == "bristol" else r"top-?1 0\.\d+.*top-?3 0\.\d+", done.stdout)
    table = (tmp_path / "unpacked/predictions.csv").read_text().splitlines()
    assert len(table) == 1 + int(re.search(r"\bn (\d+)", done.stdout)[1]) > 5
    done = subprocess.run([sys.executable, "-c", "import helpers; print(helpers.__file__)"], **place)
    assert done.stdout.strip() == str(tmp_path / "unpacked/helpers/__init__.py")


def refused(bundle, brief, tmp_path, capsys, draft=True):
    """Submit; returns what was printed, having seen that nothing was written and 1 came back."""
    assert submit.submit(brief, IDS[brief], tmp_path / "out", draft=draft, root=bundle) == 1
    assert not (tmp_path / "out").exists()
    return capsys.readouterr().out


class Harm:
    def __reduce__(self):
        return os.system, ("touch harm-was-done",)


FORBIDDEN = {
    "notebooks/loop.wav": (b"RIFF", "No training, test or preprocessed data", "1 files of data: notebooks/loop.wav"),
    "helpers/features.npy": (b"\x93NUMPY", "No training, test or preprocessed data", "helpers/features.npy"),
    "helpers/old.pkl": (pickle.dumps(Harm()), "Nothing in the zip is code in disguise", "would import posix.system"),
    "helpers/other.pt": (
        (ROOT / "weights/nsynth-demo/mel_cnn.pt").read_bytes(),
        "One model checkpoint",
        "helpers/other.pt",
    ),
    "notebooks/notes.md": (b"data in /Users/ada/nsynth", "No path of one machine", "notebooks/notes.md: /Users/ada"),
    "helpers/broken.py": (b"def f(:", "Scripts and notebooks are valid Python", "helpers/broken.py: SyntaxError"),
    "notebooks/cache/x.txt": (b"x", "No cache files", "notebooks/cache/x.txt"),
    "helpers/large.bin": (b"", "Plain files of a usual size", "helpers/large.bin: 67,108,864 bytes"),
    "helpers/link.py": (b"", "Plain files of a usual size", "helpers/link.py: a link"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_a_brief_forbids_is_refused_even_as_a_draft(name, bundle, tmp_path, capsys):
    content, rule, evidence = FORBIDDEN[name]
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(content)
    if name.endswith("large.bin"):
        os.truncate(bundle / name, 64 << 20)
    if name.endswith("link.py"):
        (bundle / name).unlink()
        (bundle / name).symlink_to(ROOT / "predict.py")
    printed = " ".join(refused(bundle, "ntu", tmp_path, capsys).split())
    assert f"refused {rule}" in printed
    assert evidence in printed
    assert "Nothing was written: there is what the brief forbids." in printed


@pytest.mark.parametrize(("brief", "name", "pages", "rule"), [
    ("bristol", "ieee", 6, "Report of at most 5 pages"), ("languages", "onepage", 4, "One page, work distribution"),
    ("ucd", "neurips", 9, "Paper of 4 to 6 pages"), ("ntu", "slides", 9, "Slides in 16:9"),
])  # fmt: skip
def test_a_report_that_breaks_its_limits_is_refused(brief, name, pages, rule, bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(handin, "torchscript", lambda info, root: b"no model")  # which would take seconds
    write_pdf(bundle / f"report/{name}/{name}.pdf", pages, (8, 6))
    assert f"refused  {rule}" in refused(bundle, brief, tmp_path, capsys)


def test_what_is_missing_is_named_and_only_a_draft_is_written_without_it(bundle, tmp_path, capsys):
    shutil.copy(ROOT / "report/authors.toml", bundle / "report")
    (bundle / "report/neurips/neurips.pdf").unlink()
    (bundle / "report/walkthrough.mp4").write_bytes(FILM + b"without a face")
    printed = " ".join(refused(bundle, "ucd", tmp_path, capsys, draft=False).split())
    for words in (
        "missing All files of the hand-in report/neurips/neurips.pdf is not there (python -m bundle report neurips)",
        "missing Authors, as report/authors.toml has them still placeholders: author 1: name",
        "missing The report names its authors no report in PDF",
        "missing Paper of 4 to 6 pages without references no report in PDF",
        "ok Video: MP4, H.264, at most 5 minutes 12345678_video.mp4: 200 s, H.264",
        "missing The author's face is in the video not the author's: python -m bundle video --face webcam.mp4",
        "Nothing was written: there is something missing (--draft writes it anyway).",
    ):
        assert words in printed
    assert "refused" not in printed
    assert submit.submit("ucd", "1", tmp_path / "out", draft=True, root=bundle) == 0
    assert "ucd, 1: DRAFT, not to be handed in" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"1.zip", "1_video.mp4"}


def test_the_authors_that_a_brief_asks_for_are_enough(bundle, tmp_path):
    path = bundle / "report/authors.toml"
    path.write_text(AUTHORS.replace('"7"', '"0"').replace("our-drive", "drive").replace('["read', '["placeholder'))
    state = {brief: checklist._authors(bundle, brief, IDS[brief]).state for brief in IDS}
    assert state == {"ntu": "missing", "bristol": "ok", "ucd": "ok", "languages": "missing"}
    path.write_text(AUTHORS.replace('signed = "Emmy Noether"', 'signed = ""'))
    assert "author 2: not signed" in checklist._authors(bundle, "bristol", "x").evidence
    path.write_text(AUTHORS.split('[[authors]]\nname = "Emmy')[0].replace('signed = "Ada Lovelace"', 'signed = ""'))
    assert checklist._authors(bundle, "bristol", "x").state == "ok"  # alone: nobody to agree with
    path.write_text(AUTHORS)
    sub = Submission(tmp_path, "a.zip", tmp_path / "none")
    write_pdf(tmp_path / "report.pdf", 1)
    assert checklist._named(sub, bundle).state == "ok"
    path.write_text(AUTHORS.replace("Emmy Noether", "Sofja Kowalewskaja"))
    assert "report.pdf lacks Sofja Kowalewskaja" in checklist._named(sub, bundle).evidence
    path.write_text(AUTHORS)
    assert "group '7', but --id 8" in checklist._authors(bundle, "languages", "8").evidence


def test_results_name_a_data_folder_and_not_its_place(bundle):
    path = bundle / "report/results/nsynth-demo/02_baseline_svm.json"
    content = json.loads(path.read_text())
    content["parameters"]["DATA"] = "/Users/ada/My data"
    path.write_text(json.dumps(content, indent=1))
    pack = handin.gather(bundle, "ntu", "r1")
    packed = json.loads(pack.inside["report/results/nsynth-demo/02_baseline_svm.json"])
    assert packed["parameters"]["DATA"] == "My data"
    assert packed["metrics"] == content["metrics"]
    assert checklist._places(pack, bundle)[0].state == "ok"


def test_a_write_that_fails_leaves_nothing(whole, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(submit.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        submit.submit("ntu", "r1", tmp_path / "out", root=whole)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("arguments", "words"), [
    (["--brief", "ntu", "--id", "ada"], "--id: found 'ada', expected a student number such as r12345678"),
    (["--brief", "languages", "--id", "../7"], "expected a group's id such as 1"),
    (["--brief", "ntu", "--id", "r1", "--task", "nsynth"], "--task: the brief ntu has its own task"),
    (["--brief", "ntu", "--id", "r1", "--weights", "none.json"], "none.json: no weights of this bundle"),
    (["--brief", "ntu", "--id", "r1", "--weights", str(ROOT / "weights/languages-demo/mel_cnn.json")],
     "weights of task languages, expected nsynth"),
])  # fmt: skip
def test_wrong_command_lines_are_refused(arguments, words, capsys):
    assert main(["submit", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_zip_predicts_with_the_weights_that_were_chosen(bundle, toy, tmp_path):
    shutil.copytree(bundle / "weights/nsynth-demo", bundle / "weights/nsynth-ours")
    pack = handin.gather(bundle, "ntu", "r1", model=bundle / "weights/nsynth-ours/raw_cnn_256_256.json")
    assert [name for name in pack.inside if name.endswith(".pt")] == ["weights/nsynth-ours/raw_cnn_256_256.pt"]
    assert "nsynth-ours/raw_cnn_256_256.pt" in pack.inside["README.txt"].decode()
    for name, content in pack.inside.items():
        (tmp_path / "u" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "u" / name).write_bytes(content)
    note = next((toy / "nsynth/nsynth-test/audio").glob("*.wav"))
    command = [sys.executable, "predict.py", "--task", "nsynth", "--data", str(note), "--json"]
    done = subprocess.run(command, cwd=tmp_path / "u", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    info = json.loads((bundle / "weights/nsynth-demo/raw_cnn_256_256.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1])["weights"] == info["sha256"]


# --- TorchScript: a file that others can run, and the files of others ---


def model_of(out, folder):
    """The TorchScript model of a zip for languages, extracted."""
    with zipfile.ZipFile(out / ZIPS["languages"]) as opened:
        return Path(opened.extract("mel_cnn.pt", folder))


def test_a_torchscript_file_says_what_it_is_and_nothing_of_this_machine(whole, handed_in, tmp_path, capsys):
    import torch

    path = model_of(handed_in("languages", capsys)[0], tmp_path)
    assert torchscript.is_torchscript(path)
    assert not torchscript.is_torchscript(whole / "weights/languages-demo/mel_cnn.pt")
    told = {torchscript.ABOUT: ""}
    scripted = torch.jit.load(str(path), _extra_files=told).to("cpu")
    assert json.loads(told[torchscript.ABOUT])["classes"] == list(TASKS["languages"].classes)
    model, _ = weights.load(whole / "weights/languages-demo", "mel_cnn", TASKS["languages"])
    wave = torch.randn(1, 40_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(scripted(wave), model(wave), atol=1e-5)
    with zipfile.ZipFile(path) as opened:
        texts = b"".join(opened.read(name) for name in opened.namelist())
    assert str(whole).encode() not in texts
    assert str(Path(torch.__file__).parent).encode() not in texts
    with pytest.raises(ValueError, match=r"svm.json: cannot be written as TorchScript .*Choose a network's weights"):
        handin.torchscript(whole / "weights/nsynth-demo/svm.json", whole)


def test_the_plain_script_agrees_with_predict_py(handed_in, toy, tmp_path, monkeypatch, capsys):
    import csv
    import runpy

    import numpy as np

    model = model_of(handed_in("languages", capsys)[0], tmp_path)

    def plain(data):
        given = ["predict.py", "--data", str(data), "--out", str(tmp_path / "plain.csv"), "--model", str(model)]
        monkeypatch.setattr(sys, "argv", given)
        code = runpy.run_path(str(ROOT / "bundle/submit/templates/plain_predict.py"))["main"]()
        rows = list(csv.reader((tmp_path / "plain.csv").open()))[1:]
        return code, {row[0]: np.array(row[2:8], float) for row in rows}, capsys.readouterr()

    code, found, _ = plain(toy / "languages")
    command = ["--task", "languages", "--data", str(toy / "languages"), "--out", str(tmp_path / "ours.csv")]
    subprocess.run([sys.executable, str(ROOT / "predict.py"), *command], check=True, capture_output=True)
    ours = {row[0]: np.array(row[2:8], float) for row in list(csv.reader((tmp_path / "ours.csv").open()))[1:]}
    assert code == 0
    assert found.keys() == ours.keys()
    assert max(np.abs(found[name] - ours[name]).max() for name in ours) < 1e-4
    # the course's arrays
    waves = np.random.default_rng(0).normal(size=(3, 40_000)).astype(np.float16) / 8
    (tmp_path / "course").mkdir()
    np.save(tmp_path / "course/inputs_test_fp16.npy", waves)
    np.save(tmp_path / "course/targets_test_int8.npy", np.array([0, 5, 2], np.int8))
    code, found, printed = plain(tmp_path / "course")
    assert re.search(r"top-1 \d\.\d+ \(chance 0\.167\), top-3 \d\.\d+ \(0\.500\), n 3", printed.out)
    assert list(found) == [f"inputs_test_fp16.npy[{row}]" for row in range(3)]
    (tmp_path / "empty").mkdir()
    code, _, printed = plain(tmp_path / "empty")
    assert code == 2
    assert "no clips, expected inputs_test_fp16.npy or audio files" in printed.err


def graded(archive, brief, data, out, *options):
    """Grade a zip in this process: exit code, and the verdict with its rows by what is asked."""
    code = main(["grade", str(archive), "--brief", brief, "--data", str(data), "--out", str(out), *options])
    found = json.loads((out / "verdict.json").read_text())
    return code, found, {row["asked"]: (row["state"], row["evidence"]) for row in found["rubric"]}


def test_the_zip_for_languages_passes_as_the_checklist_promised(handed_in, toy, tmp_path, capsys):
    out, printed = handed_in("languages", capsys)
    code, found, rows = graded(out / ZIPS["languages"], "languages", toy / "languages", tmp_path / "v")
    assert (code, found["outcome"]) == (0, "passed"), found["reason"]
    assert found["scores"]["top1"]["n"] > 20
    promised = {line[9:].split("  ")[0] for line in printed.splitlines() if line.startswith("ok ")}
    assert {name for name, (state, _) in rows.items() if state == "pass"} >= promised & set(rows)


def scripted(path, code):
    """A TorchScript file made from a module's source."""
    import torch

    (path.parent / "source_of.py").write_text(f"import torch\nclass Model(torch.nn.Module):\n{code}\n")
    sys.path.insert(0, str(path.parent))
    try:
        sys.modules.pop("source_of", None)
        from source_of import Model

        torch.jit.script(Model()).save(str(path))
    finally:
        sys.path.remove(str(path.parent))
    return path


def test_a_torchscript_model_alone_is_measured_and_one_that_never_ends_is_ended(handed_in, toy, tmp_path, capsys):
    path = model_of(handed_in("languages", capsys)[0], tmp_path).rename(tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "group_1.zip", "w") as file:
        file.write(path, "work/model.pt")
    code, found, rows = graded(tmp_path / "group_1.zip", "languages", toy / "languages", tmp_path / "v")
    assert (code, found["outcome"]) == (1, "failed")
    assert found["scores"]["top1"]["value"] > 0.3  # chance is 0.167
    assert rows["TorchScript model model.pt runs on the grader's data"][0] == "pass"
    assert rows["Same predictions with names and labels out of sight"][0] == "pass"
    assert rows["Plain script for the predictions"][0] == "fail"  # it is asked for all the same
    scripted(
        path, "    def forward(self, wave):\n        while True:\n            wave = wave * 1.0\n        return wave"
    )
    with zipfile.ZipFile(tmp_path / "group_2.zip", "w") as file:
        file.write(path, "model.pt")
    code, found, _ = graded(
        tmp_path / "group_2.zip", "languages", toy / "languages", tmp_path / "v", "--minutes", "0.1"
    )
    assert (code, found["reason"]) == (4, "inference ran out of time")


def test_torchscript_that_gives_something_else_is_told_and_probabilities_stay_what_they_are(toy, tmp_path, capsys):
    import csv

    path, out = tmp_path / "model.pt", tmp_path / "t.csv"
    scripted(path, "    def forward(self, wave):\n        return wave[:, :2]")
    assert torchscript.predict(path, "languages", toy / "languages", out) == 1
    assert "model.pt: gives 2 values, expected 6 (de, en" in capsys.readouterr().out
    assert not out.exists()
    scripted(path, "    def forward(self, wave):\n        return torch.tensor([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1]])")
    assert torchscript.predict(path, "languages", toy / "languages", out) == 0
    assert {row[2] for row in list(csv.reader(out.open()))[1:]} == {"0.500000"}
