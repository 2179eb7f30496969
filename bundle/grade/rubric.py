"""The hand-in rules of the four briefs as data: what is asked, where the brief says so, how it is checked.

`python -m bundle.grade.rubric SPEC` checks an unpacked submission and writes one line per rule; `bundle.grade.grader`
runs it boxed.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bundle.grade import asked, checks
from bundle.grade.checks import OPEN, Answer
from bundle.grade.pickles import WEIGHTS
from bundle.grade.submission import Submission
from bundle.grade.torchscript import is_torchscript

SECONDS = 60  # a rule may take
SCRIPTED = (".pt", ".pth", ".ts", ".jit", ".torchscript")
UNCHECKED = "the check itself failed"
TASK = {"ntu": "nsynth", "bristol": "magnatagatune", "ucd": "nsynth", "languages": "languages"}


@dataclass(frozen=True)
class Rule:
    """A requirement, the brief's section that states it, and the check that gives its state and evidence.

    `forbids`: it is not met by something that is there, not by something that lacks.
    """

    asked: str
    source: str
    check: Callable[[Submission], Answer]
    forbids: bool = False


Ban = partial(Rule, forbids=True)
PRETRAINED = (
    r"from_pretrained|pretrained\s*=\s*True|torch\.hub\.load|weights\s*=\s*['\"]?(IMAGENET|DEFAULT)|hf_hub_download"
)
FOREIGN = r"(?m:^\s*(import|from) (tensorflow|keras|jax|flax|mxnet)\b)"
TORCH = r"(?m:^\s*(import|from) torch\b)"
SAFETY = (
    Ban("Nothing in the zip is code in disguise", "safety of the grader", checks.pickles_are_plain),
    Ban("Weights load without unpickling", "safety of the grader", checks.weights_load),
    Ban("No test recording and none of their labels inside", "fair testing", checks.no_test_data),
    Ban("Scripts and notebooks are valid Python", "they are run", checks.scripts_are_python),
    Ban("Notebooks have a parameters cell and no failed cell", "they are executed", checks.notebooks_are_ready),
)
RULES: dict[str, tuple[Rule, ...]] = {
    "ntu": (
        Rule("Report called <studentID>_report.pdf", "NTU, Report", asked.has(r"[A-Za-z]*\d+_report\.pdf", 1)),
        Ban("Slides in 16:9", "NTU, Report", asked.wide),
        Rule("About 10 pages (suggested)", "NTU, Report", asked.pages(6, 20)),
        Rule("Confusion matrix, top-1 and top-3 reported", "NTU, Tasks 2 and 3",
             asked.says("confusion", r"top.{0,3}1", r"top.{0,3}3")),
        Rule("Mel-spectrograms with and without the log compared", "NTU, Task 3", asked.says(r"\blog\b|logarithm")),
        Rule("Nine mel-spectrograms, 3 instruments × 3 pitches", "NTU, Task 1", asked.by_eye("look at the report")),
        Rule("README.txt or README.pdf", "NTU, Code", asked.has(r"readme\.(txt|pdf)")),
        Ban("requirements.txt with versions", "NTU, Code", checks.requirements_pinned),
        Ban("Nothing required that inference does not need", "NTU, Code", checks.requirements_needed),
        Ban("One model checkpoint for inference", "NTU, Submission file and details, 3", asked.one_checkpoint),
        Ban("No training, test or preprocessed data", "NTU, Submission file and details", checks.no_data),
        Ban("No cache files", "NTU, Submission file and details", checks.no_caches),
        Ban("No pretrained model", "NTU, Rules", asked.avoids(PRETRAINED)),
    ),
    "bristol": (
        Rule("Written in Python with PyTorch", "Bristol, Final Submission, 1", asked.uses(TORCH)),
        Ban("No other framework", "Bristol, Final Submission, 1", asked.avoids(FOREIGN)),
        Rule("Runs in batch on the cluster", "Bristol, Final Submission, 1", asked.uses(r"(?m)^#SBATCH")),
        Rule("Length and stride are hyperparameters", "Bristol, 3",
             asked.uses(r"(?is)(--length|\blength\s*:\s*int).*(--stride|\bstride\s*:\s*int)")),
        Rule("Binary cross-entropy", "Bristol, 4", asked.uses(r"BCELoss|BCEWithLogitsLoss|binary_cross_entropy")),
        Ban("Report of at most 5 pages with references", "Bristol, Final Submission, 2", asked.pages(1, 5)),
        Rule("Sections b to k", "Bristol, Final Submission, 2", asked.says(
            "introduction", "related work", "dataset", "architecture", "implementation", "quantitative|replicat",
            "training curves|curves", "qualitative", "improvement|extension", "conclusion")),
        Rule("The five rows of Table 1", "Bristol, 3 and Final Submission, 2g", asked.five_rows),
        Rule("Agreement of equal contribution", "Bristol, Final Submission, 2a", asked.says("equal", missing=OPEN)),
        Rule("Signed; IEEE conference format", "Bristol, Final Submission, 2", asked.by_eye("look at the report")),
        Rule("Training curves", "Bristol, Final Submission, 2h", asked.curves),
        Ban("requirements.txt with versions", "Bristol, Final Submission, 1: it must run", checks.requirements_pinned),
        Ban("No data", "Bristol, 6: the staff has them", checks.no_data),
        Ban("No cache files", "Bristol, Final Submission, 1", checks.no_caches),
    ),
    "ucd": (
        Rule("PyTorch or TensorFlow", "UCD, 1.1", asked.uses(TORCH + "|" + FOREIGN)),
        Rule("Scripts or notebooks", "UCD, 4.1", asked.has(r".*\.(py|ipynb)", 9_999)),
        Rule("Weights of the trained models", "UCD, 4.1", asked.has(r".*\.(pt|pth|h5|hdf5|keras|skops|npz)", 9_999)),
        Ban("requirements.txt with versions", "UCD, 4.1", checks.requirements_pinned),
        Rule("A short README", "UCD, 4.1", asked.has(r"readme(\.\w+)?")),
        Ban("Paper of 4 to 6 pages without references", "UCD, 1.2", asked.pages(4, 6, without_references=True)),
        Rule("Its sections", "UCD, 1.2", asked.says("abstract", "introduction", "related work", "experiment", "results",
                                               "conclusion", "references")),
        Rule("NeurIPS style, compiled as preprint", "UCD, 1.2", asked.by_eye("look at the paper")),
        Rule("Seed 2023 where the data give no split", "UCD, 2", asked.uses(r"\b2023\b")),
        Rule("Training and validation loss by iteration", "UCD, 3.2", asked.curves),
        Ban("No dataset inside", "UCD, 4.1", checks.no_data),
        Ban("No cache files", "UCD, 4.1", checks.no_caches),
        Ban("Video: MP4, H.264, at most 5 minutes", "UCD, 1.3 and 4.1", asked.video),
        Rule("The author's face is in the video", "UCD, 1.3", asked.by_eye("watch the video")),
    ),
    "languages": (
        Rule("Zip called group_<id>.zip", "Languages, Canvas submission", asked.named_group),
        Ban("One page, work distribution, at most one appendix page", "Languages, Report", asked.pages(2, 3)),
        Rule("Work distribution in detail", "Languages, Work distribution", asked.shares),
        Rule("Data, architecture, experiments, results, conclusions", "Languages, Content page",
             asked.says("data", "architecture", "experiment", "result", "conclusion|discussion")),
        Rule("Diagram of the architecture on the content page", "Languages, Content page", asked.diagram),
        Rule("Plain script for the predictions", "Languages, Code", asked.has(r"predict\w*\.py")),
        Rule("PyTorch", "Languages, Code", asked.uses(TORCH)),
        Ban("No pretrained model", "Languages, Description", asked.avoids(PRETRAINED)),
        Ban("requirements.txt with versions", "it must run", checks.requirements_pinned),
        Ban("No data (not needed)", "Languages, Code", checks.no_data),
        Ban("No cache files", "Languages, Canvas submission", checks.no_caches),
    ),
}  # fmt: skip


def inspect(sub: Submission, brief: str, out: Path, seconds: int = SECONDS) -> None:
    """Check every rule and append a JSON line for each to `out`, so that nothing is lost when a file ends the run.

    `seconds` that a rule may take, 0 for any.
    """
    if sub.having(*WEIGHTS):
        import torch  # noqa: F401  here, for an import that the alarm interrupts leaves torch broken

    def late(*_):
        raise TimeoutError(f"took longer than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    with out.open("w", encoding="utf-8") as file:
        for rule in (*SAFETY, *RULES[brief]):
            signal.alarm(seconds)
            try:
                state, evidence = rule.check(sub)
            except Exception as error:  # a stranger's file may raise anything: this rule is open, the rest goes on
                state, evidence = OPEN, f"{UNCHECKED}: {type(error).__name__}: {str(error)[:120]}"
            signal.alarm(0)
            row = {"asked": rule.asked, "source": rule.source, "state": state, "evidence": evidence[:500]}
            file.write(json.dumps(row) + "\n")
            file.flush()
        told = {"claims": checks.claims(sub), "root": str(sub.root), "files": len(sub.files)}
        told["torchscript"] = [name for name in sub.having(*SCRIPTED) if is_torchscript(sub.root / name)]
        file.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    submission = Submission(Path(given["folder"]), given["archive"], Path(given["loose"]), given["known"])
    inspect(submission, given["brief"], Path(given["out"]))
