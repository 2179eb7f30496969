"""Pickled label files: those of many versions of pandas are read without pandas, and none is run."""

import io
import pickle
import re
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.data import frames

LABELS = Path(__file__).parent / "labels"
COLUMNS = ("file_path", "label", "part")


def label(row):
    return np.array([float((row * 7 + tag) % 5 == 0) for tag in range(50)])


def read(content, folder):
    (folder / "x.pkl").write_bytes(content)
    return frames.read_columns(folder / "x.pkl", COLUMNS)


@pytest.mark.parametrize("path", sorted(LABELS.glob("*.pkl")), ids=lambda path: path.stem)
def test_files_of_every_pandas_are_read(path):
    found = frames.read_columns(path, COLUMNS)
    rows = [0, 2] if "filtered" in path.name else [0, 1, 2]
    assert found["part"] == [("0", "c", "d")[row] for row in rows]
    assert found["file_path"][-1] == "val/d/artist_é-album-03-title-0-29.npy"
    np.testing.assert_array_equal(found["label"], [label(row) for row in rows])


def test_there_are_files_of_seven_versions():
    assert len({path.stem.split("-")[1] for path in LABELS.glob("*.pkl")}) == 7


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_frame_of_the_installed_pandas_is_read_whatever_its_protocol(tmp_path, protocol):
    rows = {"file_path": ["a/b.npy", "c/d.npy"], "label": [label(0), [1, 0.5]], "part": ["c", None]}
    frame = pd.DataFrame(rows, index=[7, 3]) if protocol == 4 else pd.DataFrame(rows)
    frame["more"] = np.arange(2)
    frame.to_pickle(tmp_path / "x.pkl", protocol=protocol)
    found = frames.read_columns(tmp_path / "x.pkl", [*rows, "more"])
    assert (found["file_path"], found["part"][0], found["more"]) == (["a/b.npy", "c/d.npy"], "c", [0, 1])
    np.testing.assert_array_equal(found["label"][0], label(0))
    np.testing.assert_array_equal(found["label"][1], [1, 0.5])


def call(module, name, argument):
    """A pickle, protocol 4, that calls `module.name(argument)` when it is opened without care."""
    text = [b"\x8c" + bytes([len(word)]) + word for word in (part.encode() for part in (module, name, argument))]
    return b"\x80\x04" + text[0] + text[1] + b"\x93" + text[2] + b"\x85R."


CODE = "__import__('pathlib').Path('ran').touch()"
CALLS = [("os", "system", "touch ran"), ("posix", "system", "touch ran"), ("builtins", "eval", CODE)]
CALLS += [("pandas", "io.common.os.system", "touch ran"), ("pandas.io.common", "os.system", "touch ran")]
CALLS += [("pandas", "eval", "1+1"), ("pandas.core.frame", "DataFrame.eval", CODE), ("pandas", "read_pickle", "x.pkl")]
CALLS += [
    ("builtins", "getattr", "x"),
    ("numpy", "load", "x"),
    ("operator", "attrgetter", "x"),
    ("copyreg", "_reconstructor", "x"),
]
CALLS += [("helpers.data.frames", "Record", "x"), ("numpy", "dtype.__setstate__", "x"), ("functools", "partial", "x")]


@pytest.mark.parametrize("asked", CALLS, ids=lambda asked: ".".join(asked[:2]))
def test_a_pickle_that_carries_code_is_refused_and_does_not_run(tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"x.pkl: refused (it asks for {asked[0]}.{asked[1]})")):
        read(call(*asked), tmp_path)
    assert not (tmp_path / "ran").exists()
    if asked[1].endswith("system"):  # opened without care, it does run
        pickle.loads(call(*asked))
        assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", sorted(frames.NAMES))
def test_every_name_that_is_known_stays_inert(name, tmp_path):
    module, _, function = name.rpartition(".")
    with pytest.raises(ValueError, match=rf"it holds {function}"):
        read(call(module, function, "touch ran"), tmp_path)
    unpickler = frames._Unpickler(io.BytesIO())
    record = unpickler.find_class(module, function)
    assert issubclass(record, frames.Record)
    assert record(1, 2).given == (1, 2)


def frame(values, places=None, names=("a",), rows=1):
    """The records of a frame of one block, as frames._columns takes them."""
    known = frames._Unpickler(io.BytesIO())

    def record(name, *given, state=None):
        module = next(full.rpartition(".")[0] for full in sorted(frames.NAMES) if full.endswith(f".{name}"))
        made = known.find_class(module, name)(*given)
        made.state = state
        return made

    def array(content, kind="f8", shape=(1,), order="<"):
        return record("_reconstruct", state=(1, shape, record("dtype", kind, state=(3, order)), False, content))

    def index(labels):
        held = array(list(labels), "O8", (len(labels),))
        return record("_new_Index", known.find_class("pandas", "Index"), {"data": held, "name": None})

    values = values(record, array) if callable(values) else values
    places = record("slice", 0, 1, 1) if places is None else places
    blocks = (record("_unpickle_block", values, places, 2),)
    manager = record("BlockManager", blocks, [index(names), index(range(rows))])
    return record("DataFrame", state={"_mgr": manager})


@pytest.mark.parametrize(
    ("content", "kind", "shape", "reason"),
    [
        (bytes(8), "V8", (1,), "type 'V8'"),
        (bytes(8), "M8", (1,), "type 'M8'"),
        (bytes(8), ["f8"], (1,), r"type \['f8'\]|unhashable"),
        (bytes(8), "f8", (10**12,), "cannot reshape"),
        (bytes(8), "f8", (-1,), "shape"),
        (bytes(8), "f8", (1, 1, 1), "shape"),
        (bytes(8), "f8", (True,), "shape"),
        (bytes(7), "f8", (1,), "multiple of element size"),
        (10**12, "f8", (1,), "without its bytes"),
        (bytes(8), "O8", (1,), "objects without them"),
        ([1, 2], "O8", (1,), "cannot reshape"),
    ],
)
def test_arrays_that_lie_about_themselves_are_refused(content, kind, shape, reason):
    with pytest.raises((ValueError, TypeError), match=reason):
        frames._columns(frame(lambda record, array: array(content, kind, shape)))


def test_blocks_that_do_not_fit_their_axes_are_refused():
    good = frame(lambda record, array: array(bytes(8)))
    assert frames._columns(good) == {"a": [0.0]}
    with pytest.raises(ValueError, match="a block of 2 values for 1 columns of 1 rows"):
        frames._columns(frame(lambda record, array: array(bytes(16), shape=(2,))))
    with pytest.raises(ValueError, match="something stands where an array belongs"):
        frames._columns(frame(5))
    with pytest.raises(IndexError):
        frames._columns(frame(lambda record, array: array(bytes(8)), places=[4]))


def test_what_is_no_value_becomes_nothing():
    found = frames._columns(frame(lambda record, array: array([frames.Record("x")], "O8")))
    assert found == {"a": [None]}


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps({"a": 1}), pickle.dumps(pd.DataFrame({"a": [1]}))])
def test_a_file_that_is_no_table_with_the_columns_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"x.pkl: refused .*expected a table of pandas with file_path, label, part"):
        read(content, tmp_path)


@pytest.mark.parametrize("name", ["pandas-1.0.5-protocol-4", "pandas-3.1.1-protocol-4"])
def test_a_changed_byte_gives_a_table_or_a_reason_and_nothing_else(name, tmp_path):
    whole = (LABELS / f"{name}.pkl").read_bytes()
    draw, reasons = np.random.default_rng(0), []
    for place in draw.permutation(len(whole))[:400]:
        content = bytearray(whole)
        content[place] ^= int(draw.integers(1, 256))
        try:
            found = read(bytes(content), tmp_path)
        except ValueError as error:
            reasons.append(str(error))
        else:
            assert {len(column) for column in found.values()} <= {0, 1, 2, 3}
    assert 50 < len(reasons) < 400
    assert all("x.pkl: refused (" in reason for reason in reasons)


def test_a_memo_number_takes_no_memory(tmp_path):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="it holds list"):
        read(b"\x80\x02]r\xff\xff\xff\x7f.", tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < peak + 2**20  # kB
