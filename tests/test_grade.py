"""python -m bundle grade: a good submission passes, each kind of bad one gets its verdict and harms nothing."""

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from bundle.__main__ import main
from bundle.grade import asked, checks, measure, pickles, rubric, sandbox, verdict
from bundle.grade.command import finished, reuse_key
from bundle.grade.submission import Submission
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
PDF_TEXT = "Confusion matrix of the test set. Top-1 and top-3 accuracy. Inputs with and without the log compared. " * 5
INFERENCE = "torch==2.13.0\ntorchaudio==2.11.0\nnumpy==2.4.6\nsoundfile==0.14.0\nscikit-learn==1.9.1\ntqdm==4.70.1\n"
SLEEPER = "import time\ntime.sleep(1000)\n"


def write_pdf(path, pages, size=(8, 4.5), text=PDF_TEXT):
    """A small PDF of text pages, without pypdf."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    with PdfPages(path) as file:
        for _ in range(pages):
            figure = Figure(figsize=size)
            figure.text(
                0.02, 0.9, "\n".join(text[at : at + 90] for at in range(0, len(text), 90)), fontsize=6, va="top"
            )
            file.savefig(figure)


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """A submission for `ntu` from this bundle's own parts."""
    folder = tmp_path_factory.mktemp("parts")
    shutil.copytree(ROOT / "helpers", folder / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "weights/nsynth-demo").mkdir(parents=True)
    for end in ("pt", "json", "md"):
        shutil.copy(ROOT / f"weights/nsynth-demo/mel_cnn.{end}", folder / "weights/nsynth-demo")
    (folder / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks/04_mel_cnn.ipynb", folder / "notebooks")
    shutil.copy(ROOT / "predict.py", folder)
    (folder / "README.txt").write_text(
        "pip install -r requirements.txt\npython predict.py --task nsynth --data FOLDER\n"
    )
    (folder / "requirements.txt").write_text(INFERENCE)
    write_pdf(folder / "r12345678_report.pdf", 8)
    return folder


@pytest.fixture(scope="session")
def claims(parts, toy, tmp_path_factory):
    """A results file with the figures that the submission's weights really have on the toy data."""
    out = tmp_path_factory.mktemp("claims")
    truth = measure.read_truth(TASKS["nsynth"], toy / "nsynth")
    command = [
        sys.executable,
        "predict.py",
        "--task",
        "nsynth",
        "--data",
        str(toy / "nsynth"),
        "--out",
        str(out / "t.csv"),
    ]
    subprocess.run(command, cwd=parts, check=True, capture_output=True)
    scores = measure.score(*measure.read_table(out / "t.csv", truth), truth)[0]
    digest = json.loads((parts / "weights/nsynth-demo/mel_cnn.json").read_text())["sha256"]
    return {
        "schema": 1, "notebook": "04_mel_cnn", "task": "nsynth", "data": "demo", "parameters": {"CLASSES": ""},
        "metrics": {f"mel_cnn_{name}": score for name, score in scores.items()}, "headline": "mel_cnn_top1",
        "weights_digest": {"mel_cnn": digest}, "curves": {},
    }  # fmt: skip


def zipped(folder, archive, **more):
    """Zip a folder with some files added or, where the content is None, left out."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in more:
                file.write(path, name)
        for name, content in more.items():
            if content is not None:
                file.writestr(name, content)
    return archive


def stub(archive, program, **more):
    """A zip of a predict.py alone, which takes half a second to meet its end."""
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in {"predict.py": program, "requirements.txt": "numpy==2.4.6\n", **more}.items():
            file.writestr(name, content)
    return archive


def grade(*arguments, brief="ntu", cwd=ROOT):
    """Run the command; returns the finished process."""
    command = [sys.executable, "-m", "bundle", "grade", *map(str, arguments), "--brief", brief]
    return subprocess.run(command, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def read(out):
    return json.loads((out / "verdict.json").read_text())


def states(found):
    return {row["asked"]: (row["state"], row["evidence"]) for row in found["rubric"]}


@pytest.fixture(autouse=True)
def scratch(monkeypatch):
    """A folder for temporary files that no other test uses and every user may enter, as the box runs as another one."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def scratch_left():
    return list(Path(tempfile.gettempdir()).glob("grade-*"))


def test_a_good_submission_passes_and_is_not_graded_twice(parts, claims, toy, tmp_path):
    content = json.dumps(claims)
    archive = zipped(parts, tmp_path / "good.zip", **{"report/results/nsynth-demo/04_mel_cnn.json": content})
    done = grade(archive, "--data", toy / "nsynth", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr + json.dumps(read(tmp_path / "out")["rubric"], indent=1)
    found = read(tmp_path / "out")
    assert found["outcome"] == "passed"
    assert all(state != "fail" for state, _ in states(found).values())
    left = {asked for asked, (state, _) in states(found).items() if state == "not checkable"}
    assert left == {"Nine mel-spectrograms, 3 instruments × 3 pitches"}  # all else was really checked
    assert [row["state"] for row in found["figures"]] == ["pass"] * len(claims["metrics"])
    assert found["scores"]["top1"]["value"] == pytest.approx(claims["metrics"]["mel_cnn_top1"]["value"], abs=0.03)
    assert sum(row["clips"] for row in found["per_class"]) == found["scores"]["top1"]["n"] == 80
    page = (tmp_path / "out/verdict.html").read_text()
    assert "r12345678_report.pdf" in page
    assert "http" not in page.replace("http-equiv", "")  # nothing from elsewhere
    again = grade(archive, "--data", toy / "nsynth", "--out", tmp_path / "out")
    assert again.returncode == 0
    assert read(tmp_path / "out") == found  # seconds and time as well: it was reused


def test_a_verdict_is_reused_only_for_the_same_zip_brief_data_and_budget(tmp_path):
    archive, budget = stub(tmp_path / "a.zip", CHEAT), sandbox.Budget()
    key = reuse_key(archive, "ntu", "data", budget)
    assert key == reuse_key(archive, "ntu", "data", sandbox.Budget())
    others = [reuse_key(archive, "ucd", "data", budget), reuse_key(archive, "ntu", "other data", budget)]
    others.append(reuse_key(archive, "ntu", "data", sandbox.Budget(seconds=1)))
    (tmp_path / "r1_report.pdf").write_bytes(b"handed in beside it")
    others.append(reuse_key(archive, "ntu", "data", budget))
    (tmp_path / "r1_report.pdf").unlink()
    others.append(reuse_key(stub(tmp_path / "a.zip", SLEEPER), "ntu", "data", budget))
    assert len({key, *others}) == 6
    (tmp_path / "verdict.json").write_text(json.dumps({"key": key}))
    (tmp_path / "verdict.html").touch()
    assert finished(tmp_path, key) == {"key": key}
    assert finished(tmp_path, others[0]) is None
    (tmp_path / "verdict.json").write_text("{")  # cut short
    assert finished(tmp_path, key) is None


def test_an_edited_figure_is_found_and_named(parts, claims, graded, tmp_path):
    edited = json.loads(json.dumps(claims))
    for key in ("value", "low", "high"):
        edited["metrics"]["mel_cnn_top1"][key] = min(1.0, edited["metrics"]["mel_cnn_top1"][key] + 0.3)
    files = {"report/results/nsynth-demo/04_mel_cnn.json": json.dumps(edited)}
    code, found = graded(zipped(parts, tmp_path / "a.zip", **files))
    assert code == 1
    state, evidence = states(found)["Claimed figures come out again"]
    assert state == "fail"
    assert "04_mel_cnn.json: mel_cnn_top1 outside the tolerance" in evidence
    assert "top3" not in evidence


# --- what must not stop, harm or fool the grader: a predict.py alone, so that each takes a second or two ---


@pytest.fixture
def graded(toy, tmp_path, capsys):
    """Grade a zip in this process: graded(archive, *options) -> exit code, verdict."""

    def call(archive, *options, brief="ntu", data=toy / "nsynth"):
        before = scratch_left()
        code = main(
            ["grade", str(archive), "--brief", brief, "--data", str(data), "--out", str(tmp_path / "v"), *options]
        )
        assert scratch_left() == before  # the scratch folder is gone
        return code, read(tmp_path / "v")

    return call


def test_one_that_sleeps_is_ended_with_all_it_started(graded, tmp_path):
    program = (
        "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(987.25)'],"
    )
    program += " start_new_session=True)\n" + SLEEPER
    code, found = graded(stub(tmp_path / "a.zip", program), "--minutes", "0.05")
    assert (code, found["outcome"], found["reason"]) == (4, "budget exceeded", "inference ran out of time")
    assert sum(run["what"].startswith("predict.py") for run in found["runs"]) == 1  # nor started again
    cmdlines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in cmdlines if b"987.25" in line and b"pytest" not in line]


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ("kept = []\nwhile True: kept.append(bytearray(1 << 24))", "memory"),
        ("file = open('big', 'wb')\nwhile True: file.write(bytes(1 << 24))", "disk"),
        ("n = 0\nwhile True:\n    n += 1\n    open(f'f{n}', 'wb').write(bytes(1 << 24))", "disk"),
        ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "processes"),
    ],
    ids=["memory", "one file", "many files", "forks"],
)
def test_budgets_are_kept(program, kind, tmp_path):
    box = tmp_path / "box"
    box.mkdir()
    budget = sandbox.Budget(seconds=30, memory=1 << 28, disk=1 << 27, processes=48)
    done = sandbox.run([sys.executable, "-c", program], box, box, budget)
    assert done.ended == kind
    assert not done.ok
    assert sandbox.used(box) < 1 << 29
    sandbox.remove(box)
    assert not box.exists()


def test_one_that_allocates_without_end_exceeds_its_budget(graded, tmp_path):
    program = "kept = []\nwhile True: kept.append(bytearray(1 << 24))\n"
    code, found = graded(stub(tmp_path / "a.zip", program), "--memory", "0.25")
    assert (code, found["reason"]) == (4, "inference ran out of memory")


PROBE = """
import json, os, pathlib, socket, sys
told = {"environment": sorted(os.environ), "home": os.environ["HOME"], "secret": "TOKEN" in os.environ}
for name, path in json.loads(sys.argv[1]).items():
    try:
        pathlib.Path(path).write_text("x")
        told[name] = "written"
    except OSError as error:
        told[name] = type(error).__name__
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=5)
    told["network"] = "connected"
except OSError as error:
    told["network"] = type(error).__name__
print(json.dumps(told))
"""


def test_a_program_sees_no_token_no_network_and_writes_in_its_box_alone(tmp_path, monkeypatch):
    import socket

    monkeypatch.setenv("TOKEN", "secret")
    box, data = tmp_path / "box", tmp_path / "data"
    box.mkdir()
    data.mkdir()
    (data / "labels.csv").write_text("a,b")
    paths = {"inside": str(box / "tmp/x"), "data": str(data / "labels.csv"), "bundle": str(ROOT / "broken.py")}
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", PROBE, json.dumps(paths), str(server.getsockname()[1])]
        done = sandbox.run(command, box, box, sandbox.Budget(seconds=30))
    told = json.loads(done.log)
    assert told["inside"] == "written"
    assert told["home"].startswith(str(box))
    assert not told["secret"]
    assert set(done.guards) == set(sandbox.GUARDS)
    if done.guards["no network"]:
        assert told["network"] != "connected"
    if done.guards["only the scratch folder is writable"]:
        assert (told["data"], told["bundle"]) == ("OSError", "OSError")
        assert (data / "labels.csv").read_text() == "a,b"
    if os.getuid() == 0:  # as root, Linux gives all of them
        assert all(done.guards.values())


def test_hidden_folders_are_empty_and_a_crash_is_told_from_a_budget(tmp_path):
    box, data = tmp_path / "box", tmp_path / "data"
    box.mkdir()
    data.mkdir()
    (data / "labels.csv").write_text("a,b")
    look = [sys.executable, "-c", f"import os; print(os.listdir({str(data)!r}))"]
    done = sandbox.run(look, box, box, sandbox.Budget(), hidden=[data])
    assert done.log.strip() == ("[]" if done.guards["only the scratch folder is writable"] else "['labels.csv']")
    done = sandbox.run([sys.executable, "-c", "import os; os.abort()"], box, box, sandbox.Budget())
    assert (done.code, done.ended) == (134, "")


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["labels.pkl", "svm.joblib", "model.pt", "{protocol}.dat"])
def test_code_in_a_pickle_is_named_and_never_run(name, protocol, tmp_path):
    if name == "{protocol}.dat":  # protocols 0 and 1 are text that nothing tells from other text
        name, protocol = f"innocent{protocol}.dat", max(protocol, 2)
    (tmp_path / "s").mkdir()
    content = pickle.dumps({"weights": [1.0], "x": Harm(tmp_path / "ran")}, protocol)
    if name == "model.pt":
        with zipfile.ZipFile(tmp_path / "s/model.pt", "w") as file:
            file.writestr("model/data.pkl", content)
            file.writestr("model/version", "3")
    else:
        (tmp_path / "s" / name).write_bytes(content)
    sub = Submission(tmp_path / "s", "a.zip", tmp_path / "none")
    state, evidence = checks.pickles_are_plain(sub)
    assert state == "fail"
    assert evidence.startswith(f"{name}: would import")
    assert ".system" in evidence
    assert not (tmp_path / "ran").exists()


def test_a_name_put_together_by_tricks_is_not_taken_for_a_harmless_one():
    hidden = b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x0bcollections\x8c\x0bOrderedDict00\x93."  # two pushed, two popped
    assert pickles.requests(hidden)[0] == ["? ?"]
    memo = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x93."  # from the memo
    assert pickles.requests(memo)[0] == ["os system"]
    assert pickles.requests(b"\x80\x02\x82\x01.")[0] == ["? ?"]  # from the extension registry


def test_plain_weights_pass_and_pickles_of_usual_kinds_are_left_to_the_grader(tmp_path):
    from sklearn.svm import SVC

    shutil.copy(ROOT / "weights/nsynth-demo/mel_cnn.pt", tmp_path)
    assert pickles.judge(tmp_path / "mel_cnn.pt") == ("pass", "")
    (tmp_path / "svm.pkl").write_bytes(pickle.dumps(SVC().fit([[0.0], [1.0]], [0, 1])))
    state, reason = pickles.judge(tmp_path / "svm.pkl")
    assert state == "not checkable"
    assert "sklearn.svm" in reason
    (tmp_path / "cut.pt").write_bytes((tmp_path / "mel_cnn.pt").read_bytes()[:1000])
    sub = Submission(tmp_path, "a.zip", tmp_path / "none")
    state, evidence = checks.weights_load(sub)
    assert state == "fail"
    assert "cut.pt" in evidence
    assert "mel_cnn" not in evidence


def test_a_submission_with_code_in_its_pickle_is_not_run(graded, tmp_path):
    program = f"import pickle\npickle.load(open('model.pkl', 'rb'))\nopen({str(tmp_path / 'ran')!r}, 'w')\n"
    archive = stub(tmp_path / "a.zip", program, **{"model.pkl": pickle.dumps(Harm(tmp_path / "ran"))})
    code, found = graded(archive)
    assert code == 1
    assert "model.pkl: would import posix.system" in found["reason"]
    assert not (tmp_path / "ran").exists()
    assert [run["what"] for run in found["runs"]] == ["unpacking", "checking the rules"]


CHEAT = """
import argparse, csv, json, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("task", "data", "out"): parser.add_argument("--" + name)
options = parser.parse_args()
classes = "bass brass flute guitar keyboard mallet organ reed string synth_lead vocal".split()
with open(options.out, "w") as file:
    table = csv.writer(file)
    table.writerow(["file", "prediction", *classes])
    for path in sorted(pathlib.Path(options.data).rglob("*.wav")):
        if "nsynth-t" in str(path) and "nsynth-test" not in str(path): continue
        true = next((name for name in classes if path.name.startswith(name)), "organ")
        table.writerow([path.name, true, *[float(name == true) for name in classes]])
print("top-1 1.000, top-3 1.000")
"""


def test_one_that_reads_the_answers_off_the_names_is_caught(graded, tmp_path):
    code, found = graded(stub(tmp_path / "a.zip", CHEAT))
    assert code == 1
    assert found["scores"]["top1"]["value"] == 1.0
    state, evidence = states(found)["Same predictions with names and labels out of sight"]
    assert state == "fail"
    assert "of 24 recordings keep" in evidence


def test_recordings_and_answers_of_the_test_data_are_found(graded, toy, tmp_path):
    files = sorted((toy / "nsynth/nsynth-test/audio").glob("*.wav"))
    answers = "".join(f"{path.stem},{path.stem.split('_')[0]}\n" for path in files).replace("synth,", "synth_lead,")
    more = {"lists/valid.csv": answers, "cache/x.wav": files[3].read_bytes()}
    rule = "No test recording and none of their labels inside"
    state, evidence = states(graded(stub(tmp_path / "a.zip", "", **more))[1])[rule]
    assert (state, evidence) == ("fail", "1 recordings of the grader's test data: cache/x.wav")
    found = graded(stub(tmp_path / "b.zip", "", **{"lists/valid.csv": answers}))[1]
    state, evidence = states(found)[rule]
    assert (state, evidence) == ("fail", "lists/valid.csv: holds the labels of 80 of 80 test recordings")
    names = "\n".join(path.name for path in files[:40])
    found = graded(stub(tmp_path / "c.zip", "", **{"train_list.txt": names}))[1]
    state, evidence = states(found)[rule]
    assert (state, evidence) == ("fail", "train_list.txt: lists 40 of 80 test recordings for training")
    assert states(found)["It writes one prediction per recording"][0] == "fail"


def test_a_copy_in_another_container_is_still_a_copy(toy, tmp_path):
    import soundfile

    truth = measure.read_truth(TASKS["nsynth"], toy / "nsynth")
    wave, rate = soundfile.read(truth.items[5].path, dtype="float32")
    soundfile.write(tmp_path / "hidden.flac", wave, rate, subtype="PCM_24")
    sub = Submission(tmp_path, "a.zip", tmp_path / "none", truth.known(with_audio=True))
    assert checks.no_test_data(sub)[0] == "fail"


def test_what_cannot_be_run_is_broken_and_a_crash_is_a_failure(graded, tmp_path):
    (tmp_path / "text.zip").write_text("no zip")
    code, found = graded(tmp_path / "text.zip")
    assert (code, found["outcome"]) == (3, "broken submission")
    assert "text.zip: not a zip that can be read" in found["reason"]
    code, found = graded(stub(tmp_path / "a.zip", None or "", **{"predict.py": "raise RuntimeError('<b>boom</b>')"}))
    assert (code, found["outcome"]) == (1, "failed")
    assert "RuntimeError" in states(found)["predict.py runs on the grader's data"][1]
    page = (tmp_path / "v/verdict.html").read_text()
    assert "&lt;b&gt;boom" in page
    assert "<b>boom" not in page
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.writestr("folder/notes.txt", "later")
    code, found = graded(tmp_path / "empty.zip")
    assert code == 3
    assert found["reason"] == "there is no predict.py at its top and no TorchScript model: nothing can be run"


def test_wrong_command_lines_are_refused(toy, tmp_path, capsys):
    data = ["--brief", "ntu", "--data", str(toy / "nsynth")]
    archive = str(stub(tmp_path / "a.zip", ""))
    for arguments, words in (
        (["grade", *data], "Give either SUBMISSION.zip or --all FOLDER"),
        (["grade", archive, "--all", str(tmp_path), *data], "Give either"),
        (["grade", str(tmp_path / "none.zip"), *data], "no such file"),
        (["grade", "--all", str(tmp_path / "none"), *data], "no such folder"),
        (["grade", archive, *data, "--minutes", "0"], "expected more than 0"),
        (["grade", archive, "--brief", "ntu", "--data", str(tmp_path / "none")], "found no folder"),
        (["grade", archive, "--brief", "ntu", "--data", str(ROOT / "bundle")], "found"),
    ):
        assert main(arguments) == 2
        assert words in capsys.readouterr().err


def test_a_class_is_graded_whatever_single_ones_do_and_resumed(toy, tmp_path):
    folder = tmp_path / "class"
    (folder / "=late").mkdir(parents=True)
    stub(folder / "cheat.zip", CHEAT)
    stub(folder / "sleep.zip", SLEEPER)
    stub(folder / "=late" / "crash.zip", "import os\nos.abort()")
    (folder / "broken.zip").write_bytes(b"PK\3\4 and nothing more")
    done = grade("--all", folder, "--data", toy / "nsynth", "--minutes", "0.1", "--jobs", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["submission"]: row for row in csv.DictReader((folder / "verdicts/summary.csv").open())}
    outcomes = {name: row["outcome"] for name, row in rows.items()}
    assert outcomes == {
        "cheat.zip": "failed", "sleep.zip": "budget exceeded", "'=late/crash.zip": "failed",
        "broken.zip": "broken submission",
    }  # fmt: skip
    assert "1 budget exceeded" in done.stdout
    before = {path: path.stat().st_mtime_ns for path in (folder / "verdicts").rglob("verdict.json")}
    (folder / "verdicts/cheat/verdict.html").unlink()
    given = ["--brief", "ntu", "--data", str(toy / "nsynth"), "--minutes", "0.1"]
    assert main(["grade", "--all", str(folder), *given]) == 0
    after = {path: path.stat().st_mtime_ns for path in before}
    assert [path.parent.name for path in before if after[path] != before[path]] == ["cheat"]


# --- rules and figures ---


def submission(folder, name="a.zip", **files):
    for path, content in files.items():
        path = folder / path.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Submission(folder, name, folder.parent / "none")


def checked(sub, brief, tmp_path):
    rubric.inspect(sub, brief, tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert "claims" in rows[-1]
    return {row["asked"]: row["state"] for row in rows[:-1]}, rows


def test_the_rules_of_bristol(tmp_path):
    code = "import torch\nimport argparse\np = argparse.ArgumentParser()\np.add_argument('--length')\n"
    code += "p.add_argument('--stride')\nloss = torch.nn.BCELoss()\n"
    sub = submission(tmp_path / "s", **{"train.py": code, "job.sh": "#!/bin/bash\n#SBATCH --gres=gpu:1\n"})
    text = "Introduction Related work Dataset CNN architecture Implementation details Replicating quantitative results "
    text += "Training curves Qualitative results Improvements Conclusion. We contributed equally. "
    text += " ".join(f"{length} {stride} 0.81" for length, stride in asked.ROWS) + " "
    write_pdf(tmp_path / "s/report.pdf", 5, (8.3, 11.7), text * 2)
    found, _ = checked(sub, "bristol", tmp_path)
    fails = [name for name, state in found.items() if state == "fail"]
    assert fails == ["requirements.txt with versions"]
    assert found["The five rows of Table 1"] == "pass"
    assert found["Signed; IEEE conference format"] == "not checkable"
    write_pdf(tmp_path / "s/report.pdf", 6, (8.3, 11.7), "Nothing of what is asked for. " * 10)
    sub = submission(tmp_path / "s", **{"train.py": "import tensorflow as tf\n", "job.sh": "echo"})
    found, _ = checked(sub, "bristol", tmp_path)
    for name in ("Report of at most 5 pages with references", "Sections b to k", "No other framework",
                 "Written in Python with PyTorch", "Runs in batch on the cluster", "Binary cross-entropy",
                 "Length and stride are hyperparameters"):  # fmt: skip
        assert found[name] == "fail", name


def test_the_rules_of_ucd(tmp_path):
    mvhd = b"\0\0\0\x6cmvhd" + bytes(12) + (1000).to_bytes(4) + (299_000).to_bytes(4)
    rest = bytes(40) + b"avc1"
    text = "Abstract Introduction Related work Experimental setup Results Conclusion and future work "
    files = {"notebooks__a.ipynb": (ROOT / "notebooks/01_data_exploration.ipynb").read_bytes(), "README.md": "Run it.",
             "weights__m.pt": (ROOT / "weights/nsynth-demo/mel_cnn.pt").read_bytes(),
             "requirements.txt": "torch==2.13.0", "train.py": "import torch\nSEED = 2023\n",
             "talk.mp4": mvhd + rest}  # fmt: skip
    sub = submission(tmp_path / "s", **files)
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    with PdfPages(tmp_path / "s/paper.pdf") as file:
        for page in range(8):
            figure = Figure(figsize=(8.3, 11.7))
            figure.text(0.1, 0.9, "References\n[1] Somebody" if page >= 6 else text)
            figure.text(0.1, 0.5, text)
            file.savefig(figure)
    found, rows = checked(sub, "ucd", tmp_path)
    assert [name for name, state in found.items() if state == "fail"] == []
    assert any(row.get("evidence") == "paper.pdf: 6 pages before the references" for row in rows)
    assert any(row.get("evidence") == "talk.mp4: 299 s, H.264" for row in rows)
    (tmp_path / "s/talk.mp4").write_bytes(mvhd[:-4] + (301_000).to_bytes(4) + rest)
    write_pdf(tmp_path / "s/paper.pdf", 7)
    (tmp_path / "s/data").mkdir()
    (tmp_path / "s/data/a.wav").write_bytes(b"RIFF")
    (tmp_path / "s/README.md").unlink()
    found, _ = checked(Submission(tmp_path / "s", "a.zip", tmp_path / "none"), "ucd", tmp_path)
    for name in ("Video: MP4, H.264, at most 5 minutes", "Paper of 4 to 6 pages without references",
                 "No dataset inside", "A short README", "Its sections"):  # fmt: skip
        assert found[name] == "fail", name


def test_the_rules_of_languages(tmp_path):
    text = "Data loading, architecture, experiments, results, conclusions. "
    roles = "Work distribution: Ada trained the model, Ben read the data. " * 8
    sub = submission(
        tmp_path / "s", "group_7.zip", **{"predict.py": "import torch\n", "requirements.txt": "torch==2.13.0"}
    )
    write_pdf(tmp_path / "s/report.pdf", 2, text=text * 2 + roles)
    found, _ = checked(sub, "languages", tmp_path)
    assert [name for name, state in found.items() if state == "fail"] == []
    write_pdf(tmp_path / "s/report.pdf", 4, text="All members worked together and contributed equally. " * 5)
    pretrained = {"predict.py": "import torch\nm = torch.hub.load('a', 'b')\n", "requirements.txt": "torch>=2"}
    sub = submission(tmp_path / "s", "ours.zip", **pretrained)
    found, _ = checked(sub, "languages", tmp_path)
    for name in ("Zip called group_<id>.zip", "One page, work distribution, at most one appendix page",
                 "No pretrained model", "requirements.txt with versions"):  # fmt: skip
        assert found[name] == "fail", name


def test_the_rules_of_ntu_that_the_good_one_does_not_touch(tmp_path):
    files = {"predict.py": "import numpy\n", "requirements.txt": "numpy==2.4.6\njupyter==1.0\n", "a.pt": b"",
             "b.pt": b"", "more.zip": b"PK", "README.md": "hi"}  # fmt: skip
    sub = submission(tmp_path / "s", **files)
    (tmp_path / "s/sub/__pycache__").mkdir(parents=True)
    (tmp_path / "s/sub/__pycache__/a.pyc").touch()
    write_pdf(tmp_path / "s/report.pdf", 3, (8, 6), "Some words only. " * 20)
    found, rows = checked(Submission(sub.folder, "a.zip", tmp_path / "none"), "ntu", tmp_path)
    for name in ("Report called <studentID>_report.pdf", "Slides in 16:9", "About 10 pages (suggested)",
                 "No cache files",
                 "README.txt or README.pdf", "Nothing required that inference does not need",
                 "One model checkpoint for inference", "No training, test or preprocessed data",
                 "Confusion matrix, top-1 and top-3 reported"):  # fmt: skip
        assert found[name] == "fail", name
    assert any(row.get("evidence") == "not imported by predict.py: jupyter" for row in rows)


def test_notebooks_and_scripts_that_are_broken_are_named(tmp_path):
    good = json.loads((ROOT / "notebooks/01_data_exploration.ipynb").read_text())
    plain, failed = json.loads(json.dumps(good)), json.loads(json.dumps(good))
    for cell in plain["cells"]:
        cell["metadata"].pop("tags", None)
    code = next(cell for cell in failed["cells"] if cell["cell_type"] == "code")
    code["outputs"] = [{"output_type": "error", "ename": "ZeroDivisionError", "evalue": "", "traceback": []}]
    files = {"a.ipynb": json.dumps(plain), "b.ipynb": json.dumps(failed), "c.ipynb": "{}", "d.py": "def f(:\n"}
    sub = submission(tmp_path / "s", **files)
    state, evidence = checks.notebooks_are_ready(sub)
    assert state == "fail"
    for words in ("a.ipynb: no cell tagged", "ended with ZeroDivisionError", "c.ipynb: not a notebook"):
        assert words in evidence
    assert "d.py: SyntaxError" in checks.scripts_are_python(sub)[1]


def test_a_check_that_fails_leaves_its_rule_open_and_the_rest_goes_on(tmp_path):
    sub = submission(tmp_path / "s", **{"predict.py": "import torch\n", "report.pdf": b"%PDF-1.4 and nothing more"})
    found, rows = checked(sub, "ntu", tmp_path)
    assert found["Slides in 16:9"] == "not checkable"
    assert any(row.get("evidence", "").startswith("the check itself failed") for row in rows)
    assert found["README.txt or README.pdf"] == "fail"


FIGURE = {"file": "r.json", "name": "m_top1", "model": "m", "score": "top1", "subset": "", "digest": None,
          "data": "demo", "value": 0.70, "low": 0.65, "high": 0.75, "n": 100}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "measured", "state", "words"),
    [
        ({}, 0.72, "pass", ""),
        ({}, 0.76, "fail", "outside the tolerance"),
        ({"low": 0.7, "high": 0.7}, 0.704, "pass", ""),
        ({"low": 0.7, "high": 0.7}, 0.706, "fail", "outside"),
        ({"low": 0.0, "high": 1.0}, 0.85, "fail", "outside"),  # claiming to be vague does not help
        ({"n": 99}, 0.70, "not checkable", "claimed on 99 recordings, measured on 100"),
        ({"subset": "en,es"}, 0.70, "not checkable", "classes en,es alone"),
        ({"value": None}, 0.70, "fail", "not a number"),
        ({"digest": "other"}, 0.70, "fail", "other weights"),
        ({"score": "roc_auc"}, 0.70, "not checkable", "no such score"),
    ],
)
def test_a_claim_holds_within_its_interval_and_no_more(change, measured, state, words):
    found = {"top1": {"value": measured, "low": measured - 0.06, "high": measured + 0.06, "n": 100}}
    row = measure.compare(FIGURE | change, found, "digest")
    assert row["state"] == state
    assert words in row["note"]


def test_a_model_that_could_not_be_run_leaves_its_claims_open():
    assert measure.compare(FIGURE, None, None)["note"] == "the model could not be run on these data"


def test_claims_of_any_shape_do_no_harm(toy, tmp_path):
    truth = measure.read_truth(TASKS["nsynth"], toy / "nsynth")
    figures = {"<script>_top1": {"value": 10**400, "low": "x", "high": None, "n": []}, "b_top1": 3, "c": {}}
    figures["top3"] = {"value": True}
    odd = {"task": "nsynth", "file": "r.json", "parameters": [], "weights_digest": 3, "metrics": figures}
    rows = [measure.compare(row, None, None) for row in measure.claimed_figures([odd], truth)]
    assert [row["name"] for row in rows] == ["<script>_top1", "top3"]
    assert all(row["state"] == "fail" for row in rows)
    told = dict.fromkeys(("submission", "outcome", "reason", "brief", "task", "data", "graded", "budget", "sha256"), "")
    told |= {"recordings": 0, "files": 0, "seconds": 0.0, "guards": {}, "rubric": [], "scores": {}, "per_class": []}
    verdict.write(told | {"figures": rows, "runs": []}, tmp_path)
    assert "<script" not in (tmp_path / "verdict.html").read_text()


def test_tables_that_are_none_are_refused_and_missing_predictions_count_as_wrong(toy, tmp_path):
    truth = measure.read_truth(TASKS["nsynth"], toy / "nsynth")
    path = tmp_path / "predictions.csv"
    with pytest.raises(ValueError, match="was not written, expected a table"):
        measure.read_table(path, truth)
    path.symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="no plain file"):
        measure.read_table(path, truth)
    path.unlink()
    path.write_text("name,score\na,1\n")
    with pytest.raises(ValueError, match="columns name, score, expected file, prediction and one per class"):
        measure.read_table(path, truth)
    path.write_text("file,bass,brass\n" + "x" * 200_000 + ",1,0\n")
    with pytest.raises(ValueError, match="field larger than"):
        measure.read_table(path, truth)
    lines = [
        f"{item.name},{','.join(str(float(name == item.labels[0])) for name in truth.classes)}" for item in truth.items
    ]
    path.write_text("\n".join([f"file,{','.join(truth.classes)}", *lines[:60], truth.items[60].name + ",nan,inf,x"]))
    scores, table, note = measure.score(*measure.read_table(path, truth), truth)
    assert scores["top1"]["value"] == pytest.approx(60 / 80)
    assert scores["top1"]["n"] == 80
    assert note == "19 of 80 recordings without a prediction"
    assert sum(row["clips"] for row in table) == 80


def test_tags_are_measured_too_and_data_without_labels_have_no_scores(toy, tmp_path):
    import numpy as np

    truth = measure.read_truth(TASKS["magnatagatune"], toy / "magnatagatune")
    values = np.array([[float(name in item.labels) for name in truth.classes] for item in truth.items])
    scores, table, _ = measure.score(values, np.ones(len(values), bool), truth)
    assert scores["roc_auc"]["value"] == 1.0
    assert {row["class"] for row in table} == set(truth.classes)
    (tmp_path / "plain").mkdir()
    shutil.copy(next((toy / "nsynth/nsynth-test/audio").glob("*.wav")), tmp_path / "plain/a.wav")
    plain = measure.read_truth(TASKS["nsynth"], tmp_path / "plain")
    assert not plain.labelled
    assert measure.score(np.ones((1, 11)), np.ones(1, bool), plain)[:2] == ({}, [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "file is missing"), (b"", "empty file (0 bytes)"), (b"\0\0\0 ftypM4A ", "is MPEG-4 audio")],
)
def test_a_recording_of_the_test_set_that_cannot_be_read_is_nobodys_fault(toy, tmp_path, content, reason):
    import numpy as np

    shutil.copytree(toy / "nsynth/nsynth-test", tmp_path / "d/nsynth-test")
    broken = sorted((tmp_path / "d/nsynth-test/audio").glob("*.wav"))[0]
    broken.unlink()
    if content is not None:
        broken.write_bytes(content)
    truth = measure.read_truth(TASKS["nsynth"], tmp_path / "d")
    assert len(truth.fingerprint()) == 64
    (left,) = truth.left
    assert left.name == f"nsynth-test/{broken.stem}"
    assert "its recording is missing" in left.reason if content is None else reason in left.reason
    values = np.array([[float(name == item.labels[0]) for name in truth.classes] for item in truth.items])
    scores, _, note = measure.score(values, np.ones(79, bool), truth)
    assert (scores["top1"]["value"], scores["top1"]["n"], note) == (1.0, 79, "0 of 79 recordings without a prediction")


def test_a_recording_that_a_table_names_and_nobody_has_is_left_out(tmp_path):
    (tmp_path / "annotations_final.csv").write_text("clip_id\tguitar\tmp3_path\n1\t1\td/a-b-1.mp3\n")
    truth = measure.read_truth(TASKS["magnatagatune"], tmp_path)
    assert (truth.items, [str(problem) for problem in truth.left]) == ([], ["d/a-b-1.mp3: file is missing"])
