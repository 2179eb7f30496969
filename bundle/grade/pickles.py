"""What pickles and weights files ask for, read without ever unpickling them."""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path

PICKLES = (".pkl", ".pickle", ".joblib", ".sav", ".p", ".dill", ".cloudpickle")
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".skops", ".h5", ".hdf5", ".keras", ".safetensors", ".onnx")
# What a PyTorch state dict asks for, as torch.load(weights_only=True) admits it
PLAIN = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter|parameter_with_state)|_codecs encode"
    r"|torch(\.storage)? \w*Storage|torch (Size|device|\w*(int|float|complex)\w*|bool|qint8|quint8)|__torch__\S* \S+"
    r"|torch\.jit\._pickle \w+|torch\.nn\.parameter Parameter"
)
# Names that honest scientific pickles hold; what they do when unpickled is not known from the name
USUAL = re.compile(
    r"(numpy|scipy|sklearn|pandas|joblib|torch|collections|lightgbm|xgboost)(\.\S+)? \S+|builtins (set|slice|complex)"
)
HARMFUL = re.compile(
    r"numpy\S* (runstring|load|exec_mod\w*|fromfile|memmap)|torch\.(hub|jit|serialization|utils)\S* \S+"
    r"|torch (load|hub|classes|ops)|(joblib|sklearn|pandas)\S* (load\w*|read_\w+|eval|query|fetch_\w+)"
)
STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")


def requests(content: bytes) -> tuple[list[str], str]:
    """Names that a pickle would import, as "module name", and why reading stopped, "" at a proper end.

    A name put together in a way that cannot be followed is "? ?".
    """
    found, strings, memo, problem = [], [], {}, ""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            name = opcode.name
            if name in ("GLOBAL", "INST"):
                found.append(str(argument))
            elif name in ("EXT1", "EXT2", "EXT4"):
                found.append("? ?")
            elif name == "STACK_GLOBAL":
                last = strings[-2:]
                found.append(" ".join(last) if len(last) == 2 and None not in last else "? ?")
                strings.append(None)
            elif name in STRINGS:
                strings.append(argument)
            elif name == "MEMOIZE":
                memo[len(memo)] = strings[-1] if strings else None
            elif name.endswith("PUT"):
                memo[argument] = strings[-1] if strings else None
            elif name.endswith("GET"):
                strings.append(memo.get(argument))
            elif name not in ("PROTO", "FRAME", "MARK"):
                strings.append(None)  # whatever else lies on the stack is no name
    except Exception as error:  # a stranger's bytes: pickletools raises what it meets
        problem = f"{type(error).__name__}: {str(error)[:60]}"
    return list(dict.fromkeys(found)), problem


def streams(path: Path) -> dict[str, bytes]:
    """The pickles in a file, by name: the file itself, or those in it when it is a zip, as PyTorch's are."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as opened:
            return {entry: opened.read(entry) for entry in opened.namelist() if entry.endswith((".pkl", ".pickle"))}
    content = path.read_bytes()
    if path.suffix.lower() in (".npy",):
        return {path.name: content.partition(b"\n")[2]} if b"'O'" in content[:256] or b"|O" in content[:256] else {}
    looks = content[:1] == b"\x80" or path.suffix.lower() in PICKLES
    return {path.name: content} if looks else {}


def judge(path: Path) -> tuple[str, str]:
    """Whether a file may be unpickled by the usual safe loaders: ("pass" | "not checkable" | "fail", the reason)."""
    try:
        found = streams(path)
    except Exception as error:  # damaged, or made to be
        return "fail", f"cannot be read ({type(error).__name__}: {str(error)[:60]})"
    if path.suffix.lower() in (".h5", ".hdf5", ".keras") and b'"Lambda"' in path.read_bytes():
        return "fail", "holds a Keras Lambda layer, which is code"
    names, problems = [], []
    for content in found.values():
        asked, problem = requests(content)
        names += asked
        problems += [problem] if problem else []
    strange = [name for name in names if not PLAIN.fullmatch(name)]
    unusual = [name for name in strange if not USUAL.fullmatch(name) or HARMFUL.fullmatch(name)]
    if unusual:
        return "fail", "would import " + ", ".join(name.replace(" ", ".") for name in unusual[:4])
    if strange or (problems and path.suffix.lower() in PICKLES):
        what = ", ".join(name.replace(" ", ".") for name in strange[:4]) or "nothing that can be named"
        return "not checkable", f"a pickle of {what}; it was not unpickled" + "".join(f" ({p})" for p in problems[:1])
    return "pass", ""
