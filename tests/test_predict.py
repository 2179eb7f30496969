"""predict.py scores recordings at any path with weights of one's choice, and says what it left out."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import demo
from bundle import doctor
from helpers import audio, inference, metrics, models, weights
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = TASKS["languages"]


def sound(samples, seed=0):
    """A tone in noise, another for each seed."""
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * rng.uniform(0.01, 0.2) * np.arange(samples))
    return (0.2 * tone + 0.05 * rng.standard_normal(samples)).astype(np.float32)


def write(path, wave, rate=LANGUAGES.rate):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate)


def untrained(folder, task, classes=None):
    """Weights of a small untrained network, as --weights wants them."""
    classes = classes or task.classes
    config = models.config_for(task, "MelCNN", len(classes)) | {"width": 4}
    info = {"config": config, "task": task.name, "classes": classes, "data": "toy", "seed": 3}
    weights.save(folder, "small", models.build(config, seed=3), info)
    return folder / "small.json"


def call(monkeypatch, capsys, *options):
    """Run predict.py's main in this process: exit code, output, errors."""
    monkeypatch.syspath_prepend(ROOT)
    import predict as program

    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, options)])
    capsys.readouterr()
    code = program.main()
    return SimpleNamespace(code=code, out=(text := capsys.readouterr()).out, err=text.err)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run predict.py in a folder of its own: `run(task, data, *options)` -> as `call`, with the table's rows."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def run(task, data, *more):
        done = call(monkeypatch, capsys, "--task", task, "--data", data, *more)
        table = tmp_path / "elsewhere" / "predictions.csv"
        assert set(table.parent.iterdir()) <= {table}  # nothing half-written stays
        done.rows = rows_of(table) if table.is_file() else []
        return done

    return run


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_recording_gets_the_probabilities_and_scores_it_gets_in_the_notebooks(run, load_toy, toy, task):
    def predicted(folder, path):
        done = run(task.name, folder, "--weights", path, "--json")
        assert done.code == 0, done.err
        found = {row["file"]: [float(row[label]) for label in task.classes] for row in done.rows}
        return found, {row["file"]: row["label"] for row in done.rows}, json.loads(done.out.splitlines()[-1])

    folder, test = ROOT / f"weights/{task.name}-demo", load_toy(task.name).test
    found, labels, said = predicted(toy / task.name, folder / "svm.json")
    expected = inference.predict_pack(weights.load(folder, "svm", task)[0], test, task)
    assert found.keys() == set(test.names)  # the test split alone
    np.testing.assert_allclose([found[clip] for clip in test.names], expected, atol=1e-5)
    held = test.targets if task.multi_label else np.eye(len(task.classes))[test.targets]
    right = {clip: "; ".join(np.array(task.classes)[row > 0]) for clip, row in zip(test.names, held, strict=True)}
    assert labels == right
    for name, score in metrics.scores(expected, test.targets, test.groups).items():
        assert said["metrics"][name] == pytest.approx(score, abs=1e-3)
    known = np.load(ROOT / f"report/results/{task.name}-demo/05_evaluation.npz")
    found, _, _ = predicted(demo.ensure(task.name, ROOT / "data/demo"), folder / "mel_cnn.json")
    expected = known["mel_cnn"]
    np.testing.assert_allclose([found[clip] for clip in known["names"]], expected, atol=5e-5)  # of another processor


def test_notes_are_scored_by_their_names_and_a_bad_one_is_left_out(run, tmp_path):
    task, notes = TASKS["nsynth"], tmp_path / "notes"
    names = ["bass_synthetic_001-040-075", "organ_electronic_002-060-100", "synth_lead_synthetic_003-072-025"]
    for seed, name in enumerate(names):
        write(notes / f"{name}.wav", sound(16_000, seed), task.rate)
    (notes / "flute_acoustic_004-060-075.wav").write_bytes(b"RIFF")
    done = run("nsynth", notes, "--weights", untrained(tmp_path / "made", task))
    assert done.code == 0, done.err
    assert "left out: flute_acoustic_004-060-075: cannot be decoded" in done.err
    assert done.err.count("left out:") == 1
    labels = ["bass", "organ", "synth_lead"]
    assert [(row["file"], row["label"]) for row in done.rows] == list(zip(names, labels, strict=True))
    assert list(done.rows[0]) == ["file", "prediction", *task.classes, "label"]
    values = np.array([[float(row[label]) for label in task.classes] for row in done.rows])
    assert [row["prediction"] for row in done.rows] == [task.classes[place] for place in values.argmax(axis=1)]
    right = np.mean([row["prediction"] == row["label"] for row in done.rows])
    last = done.out.splitlines()[-1]
    assert last.startswith(f"small (toy) on '{notes}': top1 {right:.3f} (")
    assert ", n 3, chance 0.091; top3 " in last
    assert last.endswith("; 1 left out")


def test_the_json_line_says_what_was_predicted_and_the_first_hundred_left_out(run, tmp_path):
    speech, made = tmp_path / "speech", untrained(tmp_path / "made", LANGUAGES)
    for seed in range(3):
        write(speech / LANGUAGES.classes[seed] / f"{seed}.wav", sound(4_000, seed))
    for number in range(101):
        (speech / "en" / f"broken {number:03}.wav").touch()
    done = run("languages", speech, "--weights", made, "--json")
    said, last = json.loads(done.out.splitlines()[-1]), done.out.splitlines()[-2]
    assert list(said) == ["task", "data", "weights", "n", "metrics", "unreadable", "notes"]
    assert (said["task"], said["data"], said["n"]) == ("languages", str(speech), 3)
    assert said["weights"] == hashlib.sha256(made.with_suffix(".pt").read_bytes()).hexdigest()
    assert said["unreadable"]["count"] == done.err.count("left out: ") == 101
    assert said["unreadable"]["first"][:1] == [["en/broken 000.wav", "empty file (0 bytes)"]]
    assert len(said["unreadable"]["first"]) == 100
    assert list(said["metrics"]) == ["top1", "top3"]
    assert metrics.in_words(said["metrics"]["top3"]) in last


@pytest.mark.parametrize("task", ["nsynth", "magnatagatune"])
def test_plain_audio_is_predicted_without_scores(run, task, tmp_path):
    for name, rate in (("one.wav", 44_100), ("deeper/two.ogg", 8_000)):
        write(tmp_path / "plain" / name, np.stack([sound(9_000), sound(9_000)], axis=1), rate)
    done = run(task, tmp_path / "plain", "--weights", untrained(tmp_path / "made", TASKS[task]), "--json")
    assert done.code == 0, done.err
    assert sorted(row["file"] for row in done.rows) == ["deeper/two.ogg", "one.wav"]
    assert {row["label"] for row in done.rows} == {""}
    assert "no labels, no scores, n 2; 0 left out" in done.out
    assert json.loads(done.out.splitlines()[-1])["metrics"] == {}


def test_a_terminal_without_the_letters_still_gets_the_scores(tmp_path):
    write(tmp_path / "dé" / "one.wav", sound(40_000))
    made = untrained(tmp_path / "made", LANGUAGES)
    command = [sys.executable, ROOT / "predict.py", "--task", "languages", "--data", tmp_path / "dé", "--weights", made]
    done = subprocess.run(
        [*command, "--out", tmp_path / "p.csv"], capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    assert b"d\\xe9': no labels, no scores, n 1; 0 left out" in done.stdout


def test_tags_that_all_recordings_share_are_no_missing_labels(run, tmp_path):
    header = "clip_id\tsitar\tmp3_path\n"
    (tmp_path / "annotations_final.csv").write_text(header + "1\t1\td/a-b-1.mp3\n2\t1\td/a-b-2.mp3\n")
    for name in ("a-b-1.mp3", "a-b-2.mp3"):
        write(tmp_path / "d" / name, sound(9_000), 16_000)
    task = TASKS["magnatagatune"]
    done = run("magnatagatune", tmp_path, "--weights", untrained(tmp_path / "made", task))
    assert "no tag that only some recordings have, no scores, n 2; 0 left out" in done.out


@pytest.mark.parametrize("classes", [LANGUAGES.classes, ("en", "es")])
def test_one_file_gets_its_top_three(run, tmp_path, classes):
    path, made = tmp_path / "odd name.flac", untrained(tmp_path / "made", LANGUAGES, classes)
    write(path, sound(50_000))
    model = weights.load(made.parent, "small", LANGUAGES)[0]
    values = inference.probabilities(model, [audio.decode(path, 8_000)[0]], LANGUAGES)[0]
    order = np.argsort(-values)[:3]
    done = run("languages", path, "--weights", made)
    assert (done.code, done.rows) == (0, [])
    assert done.out.splitlines() == [f"{classes[place]} {values[place]:.2f}" for place in order]
    done = run("languages", path, "--weights", made, "--json", "--out", "predictions.csv")
    assert [row["file"] for row in done.rows] == ["odd name.flac"]
    assert json.loads(done.out.splitlines()[-1])["n"] == 1


@pytest.mark.parametrize(
    ("data", "chosen", "words"),
    [
        ("nowhere", "small", "found no folder"),
        ("empty", "small", "found an empty folder, expected inputs_train"),
        ("bad", "small", "none of 1 recordings could be read"),
        ("bad/x.wav", "small", "left out: x.wav: empty file (0 bytes)"),
        ("bad", "large", "no such weights (there: altered, small)"),
        ("bad", "altered", "altered.pt: digest "),
        ("foreign", "small", "labels nl are not among the weights' classes (en, es). Choose other weights"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_words(run, data, chosen, words, tmp_path):
    made = untrained(tmp_path / "made", LANGUAGES, ("en", "es"))
    info = weights.read_info(made.parent, "small") | {"file": "altered.pt"}
    made.with_stem("altered").write_text(json.dumps(info))
    content = bytearray(made.with_suffix(".pt").read_bytes())
    content[len(content) // 2] ^= 1
    (made.parent / "altered.pt").write_bytes(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.wav").touch()
    write(tmp_path / "foreign/test/nl/b.flac", sound(8_000))
    done = run("languages", tmp_path / data, "--weights", made.with_stem(chosen))
    assert (done.code, done.rows, done.out) == (2, [], "")
    assert words in done.err


@pytest.mark.parametrize(
    ("out", "words"),
    [("plain", "plain: a folder or a device is there, expected a file. Choose another with --out"),
     ("pipe", "pipe: a folder or a device is there"),
     ("plain/a.wav/table.csv", "table.csv: cannot be written (File exists).")],
)  # fmt: skip
def test_a_table_is_not_written_over_what_is_no_table(run, out, words, tmp_path):
    write(tmp_path / "plain/a.wav", sound(800))
    os.mkfifo(tmp_path / "pipe")
    made = untrained(tmp_path / "made", LANGUAGES)
    done = run("languages", tmp_path / "plain", "--weights", made, "--out", tmp_path / out)
    assert done.code == 2
    assert words in done.err
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["a.wav"]
    assert (tmp_path / "pipe").is_fifo()
    done = run("languages", tmp_path / "plain", "--weights", made, "--out", tmp_path / "new" / "folder" / "table.csv")
    assert [row["file"] for row in rows_of(tmp_path / "new" / "folder" / "table.csv")] == ["a.wav"]


def test_what_is_not_scored_is_said_and_doctor_agrees(run, tmp_path, capsys):
    speech, made = tmp_path / "speech", untrained(tmp_path / "made", LANGUAGES)
    for name in ("test/EN/a.aiff", "test/german/b.WAV", "training/en/c.ogg", "extra/d.ogg"):
        write(speech / name, sound(8_000))
    (speech / "test/en2").mkdir()
    for name, content in (("EN/e.m4a", b"\0\0\0 ftypM4A "), ("EN/f.wav", b""), ("en2/g.wav", b"RIFF")):
        (speech / "test" / name).write_bytes(content)
    done = run("languages", speech, "--weights", made, "--json")
    assert [row["file"] for row in done.rows] == ["test/EN/a.aiff", "test/german/b.WAV"]
    lines = done.out.splitlines()
    counts = "1 label outside the classes; 1 is MPEG-4 audio; 1 empty file"
    assert lines[0] == f"found 5 recordings: 2 predicted, 3 left out ({counts})"
    notes = [
        "extra/ is not used: 1 recordings outside the layout.",
        "train: 1 recordings, not predicted",
        "2 of 6 classes are there; no recording of: es, fr, nl, pt",
    ]
    assert lines[1:4] == [f"note: {note}" for note in notes]
    assert json.loads(lines[-1])["notes"] == notes
    found = {check.name: check for check in doctor.examine(LANGUAGES, speech)}
    assert {name for name, _ in found["recordings"].clips} == {"test/EN/e.m4a", "test/EN/f.wav", "test/en2/g.wav"}
    assert found["note"].found == notes[0]
    assert [found[split].found for split in ("train", "test")] == ["1 clips", "4 clips"]


def test_tags_that_weights_and_folder_do_not_share_are_said(run, tmp_path):
    task, header = TASKS["magnatagatune"], "clip_id\tsitar\tyodel\tmp3_path\n"
    (tmp_path / "annotations_final.csv").write_text(
        header + "1\t1\t1\td/a-b-1.mp3\n2\t0\t1\td/a-b-2.mp3\n", "utf-8-sig"
    )
    for name in ("a-b-1.mp3", "a-b-2.mp3"):
        write(tmp_path / "d" / name, sound(9_000), 16_000)
    done = run("magnatagatune", tmp_path, "--weights", untrained(tmp_path / "made", task))
    assert "note: scored 1 of 50 tags; all recordings or none have: ambient, baroque, " in done.out
    assert "note: tags unknown to the weights, not scored: yodel" in done.out


def test_damaged_labels_are_not_taken_for_a_folder_without_labels(run, tmp_path):
    task, notes = TASKS["nsynth"], tmp_path / "notes"
    write(notes / "audio/bass_acoustic_000-036-075.wav", sound(9_000), task.rate)
    (notes / "examples.json").write_text('{"bass')
    done = run("nsynth", notes, "--weights", untrained(tmp_path / "made", task))
    assert (done.code, done.rows) == (2, [])
    assert "found no JSON of NSynth" in done.err


def test_help_names_every_option_and_does_not_wait_for_torch():
    source = (
        "import runpy, sys\nsys.argv = ['predict.py', '--help']\n"
        "try: runpy.run_path('predict.py', run_name='__main__')\nexcept SystemExit as end: assert not end.code\n"
        "print(sorted({'torch', 'numpy', 'helpers'} & set(sys.modules)))"
    )
    text = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not [name for name in ("--task", "--data", "--weights", "--out", "--json") if name not in text]
    assert text.splitlines()[-1] == "[]"


ALONE = """
import importlib.metadata as metadata, os, re, runpy, sys

def closure(names, seen):
    for name in names:
        name = re.split(r"[^\\w.-]", name)[0].lower().replace("_", "-")
        if name in seen: continue
        try: needed = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError: continue
        seen.add(name)
        closure([line for line in needed if "extra ==" not in line], seen)
    return seen

with open("requirements-inference.txt") as file:
    allowed = closure([line.split("==")[0] for line in file if not line.startswith("#")], set())
tops = metadata.packages_distributions().items()
blocked = {top for top, held in tops if not {name.lower().replace("_", "-") for name in held} & allowed}
assert {"pandas", "lightning_fabric", "papermill", "pytest"} <= blocked, blocked
assert not {"torch", "numpy", "scipy", "sklearn", "soundfile", "tqdm"} & blocked, blocked

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def unwritten(event, given):
    named = event == "open" and not isinstance(given[0], int)
    written = named and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if (written or event == "os.mkdir") and os.path.abspath(os.fsdecode(given[0])).startswith(os.getcwd()):
        raise PermissionError(f"{given[0]} was written to")

sys.dont_write_bytecode = True
sys.addaudithook(unwritten)
sys.meta_path.insert(0, Blocker())
for part in sys.argv[1].split("|"):
    sys.argv = ["predict.py", *part.split()]
    try: runpy.run_path("predict.py", run_name="__main__")
    except SystemExit as end: print("code", end.code)
"""


def test_nothing_but_the_requirements_of_inference_and_a_bundle_to_read_is_needed(tmp_path):
    notes, speech = tmp_path / "notes", tmp_path / "speech"
    write(notes / "bass_synthetic_001-040-075.wav", sound(16_000), 16_000)
    write(speech / "test" / "en" / "a.flac", sound(16_000))
    parts = [
        f"--task nsynth --data {notes} --out {tmp_path}/a.csv",
        f"--task languages --data {speech} --out {tmp_path}/b.csv --json",
        f"--task magnatagatune --data {notes} --out {tmp_path}/c.csv",
        f"--task languages --data {speech} --weights {ROOT}/weights/languages-demo/svm.json --out {tmp_path}/d.csv",
    ]

    command = [sys.executable, "-c", ALONE, "|".join(parts)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith("code")] == ["code 0"] * 4, done
    assert "mel_cnn (demo) on" in done.stdout
