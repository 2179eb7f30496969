"""Read a table of pandas out of a pickle without running anything of it, and without pandas.

A pickle is a program that names functions to call. Here every name stands for an inert `Record`, which keeps what it
was called with and does nothing; the table is then put together from these records, whose types and sizes are checked.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# What a pickled table of any version of pandas and NumPy names
NAMES = frozenset(
    f"{module}.{name}"
    for modules, names in (
        (("builtins", "__builtin__"), ("slice",)),
        (("_codecs",), ("encode",)),  # of bytes in protocol 2
        (("numpy",), ("dtype", "ndarray")),
        (("numpy.core.multiarray", "numpy._core.multiarray"), ("_reconstruct", "scalar")),
        (("numpy.core.numeric", "numpy._core.numeric"), ("_frombuffer",)),
        (("pandas", "pandas.core.frame"), ("DataFrame",)),
        (("pandas", "pandas.core.indexes.base"), ("Index", "_new_Index")),
        (("pandas", "pandas.core.indexes.range"), ("RangeIndex",)),
        (("pandas.core.indexes.numeric",), ("Int64Index",)),
        (("pandas", "pandas.core.arrays.string_"), ("StringDtype", "StringArray")),
        (("pandas.arrays",), ("StringArray",)),
        (("pandas.core.internals.blocks",), ("new_block",)),
        (("pandas.core.internals.managers",), ("BlockManager",)),
        (("pandas._libs.internals",), ("_unpickle_block",)),
        (("pandas._libs.arrays",), ("__pyx_unpickle_NDArrayBacked",)),
    )
    for module in modules
    for name in names
)
NUMBERS = frozenset("f8 f4 f2 i8 i4 i2 i1 u8 u4 u2 u1 b1".split())  # types of arrays that are read


class Record:
    """What a name was called with, and given afterwards as its state. Nothing is done with either."""

    name = ""

    def __new__(cls, *given):
        record = object.__new__(cls)
        record.given, record.state = given, None
        return record

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle._Unpickler):  # the one in C makes room for any memo number that a file names
    def __init__(self, file):
        super().__init__(file)
        self.known: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> type:
        asked = f"{module}.{name}"
        if asked not in NAMES:
            raise ValueError(f"it asks for {asked}")
        return self.known.setdefault(asked, type(name, (Record,), {"__slots__": ("given", "state"), "name": name}))


def read_columns(path: Path, wanted: Sequence[str]) -> dict[str, list]:
    """The columns of a pickled table, which must be those `wanted`: texts, numbers and arrays of numbers, row by row.

    Raises
    ------
    ValueError
        If it asks for anything else, is damaged, or is another table.
    """
    try:
        with path.open("rb") as file:
            table = _Unpickler(file).load()
        columns = _columns(table)
        if sorted(columns) != sorted(wanted):
            raise ValueError(f"its columns are {', '.join(map(str, columns))}")
        return {name: columns[name] for name in wanted}
    except Exception as error:  # a damaged pickle may raise anything; none of it may pass for data
        raise ValueError(
            f"{path}: refused ({error}), expected a table of pandas with {', '.join(wanted)}. Fetch the file again."
        ) from error


def _is(record: object, *names: str) -> bool:
    return isinstance(record, Record) and record.name in names


def _columns(table: object) -> dict[str, list]:
    """By name, from the records of a frame of pandas 1.0 to 3: its manager holds two axes and blocks of equal type."""
    if not _is(table, "DataFrame") or not isinstance(table.state, dict):
        raise ValueError(f"it holds {table.name if isinstance(table, Record) else type(table).__name__}")
    manager = table.state.get("_mgr", table.state.get("_data"))
    if not _is(manager, "BlockManager"):
        raise ValueError("its frame has no blocks")
    if manager.given:  # since 1.3
        blocks, (names, rows) = manager.given
        parts = [(block.given[0], block.given[1]) for block in blocks]
    else:
        extra = manager.state[3]["0.14.1"]
        names, rows = extra["axes"]
        parts = [(block["values"], block["mgr_locs"]) for block in extra["blocks"]]
    names, count = _index(names), len(_index(rows))
    found: dict[str, list] = {}
    for values, places in parts:
        if _is(places, "slice"):
            places = range(len(names))[slice(*places.given)]
        elif isinstance(places, Record):
            places = _array(places).tolist()
        block = _array(values)
        if block.size != len(places) * count:
            raise ValueError(f"a block of {block.size} values for {len(places)} columns of {count} rows")
        for place, column in zip(places, block.reshape(len(places), count), strict=True):
            if names[place] in found:
                raise ValueError("a column lies in two blocks")
            found[names[place]] = [_value(value) for value in column]
    return found


def _index(record: object) -> Sequence:
    """Labels of an axis."""
    if not _is(record, "_new_Index"):
        raise ValueError("an axis is no index")
    about = record.given[1]
    if record.given[0].name == "RangeIndex":
        return range(about["start"], about["stop"], about["step"])
    return _array(about["data"]).tolist()


def _array(record: object) -> np.ndarray:
    """Numbers from their bytes, or a list of objects as an array of objects."""
    if _is(record, "StringArray", "__pyx_unpickle_NDArrayBacked"):
        state = record.state if record.state is not None else record.given[2]
        return _array(next(part for part in state if _is(part, "_reconstruct", "_frombuffer")))
    if _is(record, "_frombuffer"):
        content, dtype, shape, order = record.given
    elif _is(record, "_reconstruct"):
        _, shape, dtype, fortran, content = record.state
        order = "F" if fortran else "C"
    else:
        raise ValueError("something stands where an array belongs")
    if not all(type(length) is int and length >= 0 for length in shape) or len(shape) > 2 or order not in ("C", "F"):
        raise ValueError(f"an array of the shape {shape!r:.99}")
    kind = _dtype(dtype)
    if kind.hasobject:
        if type(content) is not list:
            raise ValueError("an array of objects without them")
        array = np.empty(len(content), dtype=object)
        for place, value in enumerate(content):  # numpy would look into them
            array[place] = value
        return array.reshape(shape, order=order)
    return np.frombuffer(_bytes(content), kind).reshape(shape, order=order)


def _bytes(content: object) -> bytes:
    if _is(content, "encode") and type(content.given[0]) is str:
        return content.given[0].encode("latin-1")
    if type(content) not in (bytes, bytearray):
        raise ValueError("an array without its bytes")
    return bytes(content)


def _dtype(record: object) -> np.dtype:
    """One of NUMBERS, or objects."""
    if not _is(record, "dtype"):
        raise ValueError("an array without a type")
    name = record.given[0]
    order = record.state[1] if record.state else "|"
    if name in ("O", "O8"):
        return np.dtype(object)
    if name not in NUMBERS or order not in ("<", ">", "|", "="):
        raise ValueError(f"an array of the type {name!r:.99}")
    return np.dtype(name).newbyteorder(order)


def _value(value: object) -> object:
    """A cell: text and numbers as they are, arrays of numbers as such; None for anything else."""
    if _is(value, "scalar"):
        kind = _dtype(value.given[0])
        return None if kind.hasobject else np.frombuffer(_bytes(value.given[1]), kind)[0].item()
    if _is(value, "_reconstruct", "_frombuffer"):
        array = _array(value)
        return None if array.dtype.hasobject else array
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return np.array(value, dtype=float) if all(type(one) in (int, float) for one in value) else None
    return value if type(value) in (str, int, float, bool) else None
