"""The way of one submission: unpacked, checked against the brief's rules, its inference run, all of it in a box."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bundle.grade.rubric import RULES, SAFETY, UNCHECKED
from bundle.grade.sandbox import GIB, Budget, Ran, remove, run
from bundle.grade.submission import Submission
from bundle.grade.verdict import OUTCOMES

ROOT = Path(__file__).resolve().parents[2]
CHECKING = Budget(seconds=600, memory=3 * GIB, disk=3 * GIB)  # for unpacking and for the rules


def loose_files(archive: Path) -> list[Path]:
    """Files handed in beside the zip: all in its folder when no other zip is there."""
    if len(list(archive.parent.glob("*.zip"))) > 1:
        return []
    return sorted(path for path in archive.parent.glob("*") if path.suffix.lower() in (".pdf", ".mp4", ".txt"))


def grade(archive: Path, brief: str, truth, budget: Budget, jobs: int = 1) -> dict:
    """The verdict on one submission, one of `jobs` at a time; its scratch folder is gone afterwards in any case."""
    work = Path(tempfile.mkdtemp(prefix="grade-"))
    work.chmod(0o711)  # the stranger passes through to box/ and lists nothing
    try:
        return _Grading(archive, brief, truth, budget, work, max(1, (os.cpu_count() or 1) // jobs)).verdict()
    finally:
        remove(work)


class _Grading:
    """One submission on its way: the rows, runs and figures found so far."""

    def __init__(self, archive: Path, brief: str, truth, budget: Budget, work: Path, threads: int) -> None:
        self.archive, self.brief, self.truth, self.budget = archive.resolve(), brief, truth, budget
        self.box, self.started = work / "box", time.time()
        self.box.mkdir()
        self.rubric: list[dict] = []
        self.runs: list[dict] = []
        self.found = {"figures": [], "scores": {}, "per_class": [], "files": 0, "guards": {}}
        self.left, self.threads = budget.seconds, threads
        self.program, self.title, self.lead = ["predict.py"], "predict.py", ["--task", truth.task.name]

    def verdict(self) -> dict:
        """Everything, as it stands in verdict.json."""
        outcome, reason = self.judge()
        limits = f"{self.budget.seconds / 60:g} minutes, {self.budget.memory / GIB:g} GiB"
        return {
            "schema": 1, "submission": self.archive.name, "outcome": outcome, "exit_code": OUTCOMES[outcome],
            "reason": reason, "sha256": hashlib.sha256(self.archive.read_bytes()).hexdigest(), "brief": self.brief,
            "task": self.truth.task.name, "data": str(self.truth.folder), "recordings": len(self.truth.items),
            "budget": limits, "rubric": self.rubric, "runs": self.runs, "seconds": time.time() - self.started,
            "graded": time.strftime("%Y-%m-%d %H:%M"), **self.found,
        }  # fmt: skip

    def judge(self) -> tuple[str, str]:
        """Outcome and reason."""
        from bundle.grade.inference import infer

        unpacker = Path(__file__).with_name("unpack.py")
        done = self.boxed("unpacking", [str(unpacker), str(self.archive), self.at("unpacked")])
        if not done.ok:
            last = (done.log.strip().splitlines() or ["it could not be unpacked"])[-1]
            return "broken submission", f"it ran out of {done.ended} while being unpacked" if done.ended else last
        root = self.inspect()
        if root is None or not self.choose_program(root):
            return "broken submission", "there is no predict.py at its top and no TorchScript model: nothing can be run"
        first = self.rubric[0]
        if first["state"] == "fail" or first["evidence"].startswith(UNCHECKED):
            return "failed", f"it was not run, for it must hold that {first['asked'].lower()}: {first['evidence']}"
        ended = infer(self, root)
        failed = [row for row in self.rubric if row["state"] == "fail"]
        if ended:
            return "budget exceeded", f"inference ran out of {ended}"
        if failed:
            first = f"{failed[0]['asked']} ({failed[0]['evidence']})"
            return "failed", f"{len(failed)} requirement{'s' * (len(failed) > 1)} not met, first: {first}"
        return "passed", "every requirement that can be checked is met"

    def at(self, name: str) -> str:
        """A path in the box."""
        return str(self.box / name)

    def note(self, asked: str, source: str, state: str, evidence: str) -> None:
        """Add a row to the rubric."""
        self.rubric.append({"asked": asked, "source": source, "state": state, "evidence": evidence})

    def boxed(self, what: str, arguments: list[str], cwd: Path = ROOT, budget: Budget = CHECKING, hidden=()) -> Ran:
        """Run Python on `arguments` in the box; kept in the verdict with the end of its output."""
        done = run([sys.executable, *arguments], self.box, cwd, budget, self.threads, hidden)
        shown = {"what": what, "code": done.code, "ended": done.ended, "seconds": done.seconds}
        self.runs.append(shown | {"peak": done.peak, "log": _printable(done.log)})
        self.found["guards"] = done.guards
        return done

    def choose_program(self, root: Path) -> bool:
        """What predicts: the submission's predict.py, or ours with its only TorchScript model; False without either."""
        if (root / "predict.py").is_file():
            return True
        if len(self.scripted) != 1 or not (root / self.scripted[0]).is_file():
            return False
        self.program = ["-m", "bundle.grade.torchscript", str(root / self.scripted[0])]
        self.title = f"TorchScript model {self.scripted[0]}"
        return True

    def predict(self, what: str, root: Path, arguments: list[str], hidden=()) -> Ran:
        """Run what predicts within what is left of the time; `what` is said after its name."""
        budget = replace(self.budget, seconds=max(self.left, 0.1))
        cwd = root if self.title == "predict.py" else ROOT
        command = [*self.program, *self.lead, *arguments]
        done = self.boxed(f"{self.title} {what}".strip(), command, cwd, budget, hidden)
        self.left -= done.seconds
        return done

    def inspect(self) -> Path | None:
        """Check the brief's rules in the box; returns the folder that holds the submission's files."""
        unpacked, loose, rows = self.box / "unpacked", self.box / "loose", self.box / "rows.jsonl"
        files = [path.suffix.lower() for path in unpacked.rglob("*") if path.is_file()]
        loose.mkdir()
        for path in loose_files(self.archive):
            shutil.copy(path, loose)
        known = self.truth.known(with_audio=bool({".wav", ".mp3", ".flac", ".ogg", ".npy"} & set(files)))
        spec = {"folder": str(unpacked), "archive": self.archive.name, "loose": str(loose), "known": known}
        path = self.box.with_name("spec.json")
        path.write_text(json.dumps(spec | {"brief": self.brief, "out": str(rows)}), encoding="utf-8")
        done = self.boxed("checking the rules", ["-m", "bundle.grade.rubric", str(path)])
        path.unlink()  # it holds the labels
        lines = rows.read_text(encoding="utf-8").splitlines() if rows.is_file() else []
        told = [json.loads(line) for line in lines]
        last = told.pop() if told and "claims" in told[-1] else {}
        self.rubric += told
        for rule in (*SAFETY, *RULES[self.brief])[len(told) :]:
            why = f"exceeded its {done.ended}" if done.ended else f"ended with exit code {done.code}"
            self.note(rule.asked, rule.source, "not checkable", f"{UNCHECKED}: it {why} before this rule")
        self.found["files"], self.claims, self.scripted = (
            len(files),
            last.get("claims", []),
            last.get("torchscript", []),
        )
        return Submission(unpacked, self.archive.name, loose).root if last else None


def _printable(text: str) -> str:
    return re.sub(r"[^\n\t\x20-\x7e\u00a0-\uffff]", "", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text))
