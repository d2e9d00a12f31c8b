"""Pickles without an unpickler: the opcodes that results files and word lists of this field contain, and no others.

Python's unpickler builds whatever a file names. An allow-list of classes does not help: numpy's own `dtype` takes a state
that corrupts memory. So the opcodes are read here, one by one, into plain values; what a pickle calls a class or function
stays a name, and the four calls that arrays and numbers need are carried out by this file, from checked values.
"""

import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protos.reading import FileError, Source, name_of, read_bytes, size

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 4 << 30
MOST_VALUES = 50_000_000  # opcodes: a vocabulary of GloVe has 400,000 words

_CORES = ("numpy.core", "numpy._core")
_CALLS = {
    **{(f"{core}.multiarray", "_reconstruct"): "reconstruct" for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): "scalar" for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): "frombuffer" for core in _CORES},
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "ndarray",
    ("_codecs", "encode"): "encode",
}


class _Name:
    """A class or function that a pickle names, one of `_CALLS`."""

    def __init__(self, call: str):
        self.call = call


class _Kind:
    """A numpy dtype in the making: its letters come with the call, its byte order with the state."""

    def __init__(self, letters: str):
        self.letters, self.order = letters, "="

    def dtype(self) -> "np.dtype":
        import numpy as np

        return np.dtype(self.letters).newbyteorder(self.order if self.order in "<>" else "=")


class _Array:
    """A numpy array in the making: empty until its state (version, shape, dtype, Fortran order, bytes) comes."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None


_MARK, _UNFINISHED = object(), object()


def read_plain_pickle(source: Source, name: str | None = None, skip: int = 0) -> Any:
    """Dicts, lists, tuples, text, numbers, bytes and numpy arrays of numbers or text in a pickle (protocols 0 to 5).

    `skip` bytes at the start are not part of it (the header of a .npy of objects). FileError for anything else, a pickle that
    is damaged, or one that refers to itself; nothing in it is run.
    """
    name = name or name_of(source)
    if isinstance(source, (str, Path)) and Path(source).stat().st_size > MOST_BYTES:
        raise FileError(f"{name}: larger than {size(MOST_BYTES)}")
    data = read_bytes(source, MOST_BYTES, name)[skip:]
    try:
        return _Reader(name).read(data)
    except FileError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = str(error).split("\n")[0][:120]
        raise FileError(f"{name}: not a pickle of plain values and arrays, or a damaged one ({reason})") from None


class _Reader:
    """A stack machine over the opcodes that plain values and arrays need."""

    def __init__(self, name: str):
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.made = 0  # bytes of arrays
        self.finished: dict[int, tuple[Any, Any]] = {}  # id -> (container, its final form)

    def read(self, data: bytes) -> Any:
        steps = _steps()
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name == "STOP":
                (result,) = self.stack
                return self._finished(result)
            if count >= MOST_VALUES:
                raise FileError(f"{self.name}: a pickle of more than {MOST_VALUES} values")
            step = steps.get(opcode.name)
            if step is None:
                raise FileError(f"{self.name}: a pickle that does more than hold values ({opcode.name}): not read")
            step(self, argument)
        raise ValueError("it has no end")

    # ---------------------------------------------------------------------------------------- stack, memo, containers

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def put(self, key: int | None) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def to_mark(self) -> list[Any]:
        position = max(i for i, value in enumerate(self.stack) if value is _MARK)
        values = self.stack[position + 1 :]
        del self.stack[position:]
        return values

    def top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("it takes more values than it holds")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("it appends to what is no list")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise ValueError("it sets items of what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[self._finished(key)] = value

    # ------------------------------------------------------------------------------------------- the few calls there are

    def named(self, words: str) -> None:
        module, _, attribute = words.partition(" ")
        call = _CALLS.get((module, attribute))
        if call is None:
            raise FileError(f"{self.name}: a pickle that asks for {module}.{attribute}: only plain values and arrays are read")
        self.push(_Name(call))

    def stack_named(self) -> None:
        module, attribute = self.top(2)
        self.named(f"{module} {attribute}")

    def call(self) -> None:
        name, arguments = self.top(2)
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise ValueError("it calls what is no function")
        self.push(getattr(self, f"_call_{name.call}")(*arguments))

    def build(self) -> None:
        (state,) = self.top(1)
        target = self.stack[-1]
        if isinstance(target, _Kind):
            if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
                raise ValueError("an unknown dtype")
            target.order = state[1]
        elif isinstance(target, _Array):
            _version, shape, kind, fortran, content = state
            target.value = self._array(content, kind, shape, "F" if fortran else "C")
        else:
            raise ValueError("it gives a state to what has none")

    def _call_dtype(self, letters: Any, *_flags: Any) -> _Kind:
        import re

        if isinstance(letters, bytes):
            letters = letters.decode("ascii")
        if not isinstance(letters, str) or not re.fullmatch(r"[fiubcUSO]\d{0,6}", letters):
            raise ValueError(f"arrays of {letters!r}")
        return _Kind(letters)

    def _call_reconstruct(self, kind: Any, *_shape_and_letter: Any) -> _Array:
        if not isinstance(kind, _Name) or kind.call != "ndarray":
            raise ValueError("it makes something else than an array")
        return _Array()

    def _call_frombuffer(self, content: Any, kind: Any, shape: Any, order: Any) -> _Array:
        array = _Array()
        array.value = self._array(content, kind, shape, order)
        return array

    def _call_scalar(self, kind: Any, content: Any) -> Any:
        return self._array(content, kind, (), "C")[()]

    def _call_encode(self, text: Any, encoding: Any) -> bytes:  # how Python 2 and protocol 2 hold bytes
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError("an unknown encoding")
        return text.encode("latin1")

    def _array(self, content: Any, kind: Any, shape: Any, order: Any) -> "np.ndarray":
        import numpy as np

        if not isinstance(kind, _Kind) or not isinstance(shape, tuple) or order not in ("C", "F"):
            raise ValueError("an array without kind or shape")
        if len(shape) > 32 or not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"an array of shape {shape}")
        if kind.letters.startswith("O"):
            return self._objects(content, shape, order)
        dtype = kind.dtype()
        if isinstance(content, str):  # Python 2's bytes
            content = content.encode("latin1")
        if not isinstance(content, (bytes, bytearray)) or len(content) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} whose content has another size")
        self.made += len(content)
        if self.made > MOST_BYTES:
            raise FileError(f"{self.name}: arrays of more than {size(MOST_BYTES)}")
        return np.frombuffer(bytearray(content), dtype).reshape(shape, order=order)

    def _objects(self, content: Any, shape: tuple[int, ...], order: str) -> "np.ndarray":
        """An array of values: the dict of a results file lies in one of shape ()."""
        import numpy as np

        if not isinstance(content, list) or len(content) != math.prod(shape):
            raise ValueError("an array of values without its values")
        array = np.empty(len(content), object)
        for place, value in enumerate(content):
            array[place] = self._finished(value)
        return array.reshape(shape, order=order)

    def _finished(self, value: Any) -> Any:
        """The value with its arrays in place of those in the making. A name, or what holds itself, is no value."""
        if isinstance(value, _Array):
            if value.value is None:
                raise ValueError("an array without content")
            return value.value
        if isinstance(value, (_Name, _Kind)) or value is _MARK:
            raise ValueError("it holds a function or class")
        if type(value) not in (dict, list, tuple):
            return value
        # Once for each container, however often it is referred to: else ten lists of ten references make 10^10 values.
        _, done = self.finished.get(id(value), (None, _MARK))
        if done is _MARK:
            self.finished[id(value)] = (value, _UNFINISHED)
            if type(value) is dict:
                done = {key: self._finished(each) for key, each in value.items()}
            else:
                done = type(value)(self._finished(each) for each in value)
            self.finished[id(value)] = (value, done)
        if done is _UNFINISHED:
            raise ValueError("it holds itself")
        return done


def _steps() -> dict[str, Callable[[_Reader, Any], None]]:
    """What each opcode does. Absent are all that build objects, and persistent and extension codes."""

    def value(reader: _Reader, argument: Any) -> None:
        reader.push(argument)

    def get(reader: _Reader, argument: Any) -> None:
        reader.push(reader.memo[int(argument)])

    def put(reader: _Reader, argument: Any) -> None:
        reader.put(None if argument is None else int(argument))

    def nothing(reader: _Reader, argument: Any) -> None:
        pass

    steps: dict[str, Callable[[_Reader, Any], None]] = {
        **dict.fromkeys(
            ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
             "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE",
             "SHORT_BINUNICODE", "BINUNICODE8"), value,
        ),
        **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), get),
        **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), put),
        **dict.fromkeys(("PROTO", "FRAME"), nothing),
        "NONE": lambda r, _: r.push(None),
        "NEWTRUE": lambda r, _: r.push(True),
        "NEWFALSE": lambda r, _: r.push(False),
        "MARK": lambda r, _: r.push(_MARK),
        "POP": lambda r, _: r.top(1) and None,
        "EMPTY_LIST": lambda r, _: r.push([]),
        "EMPTY_TUPLE": lambda r, _: r.push(()),
        "EMPTY_DICT": lambda r, _: r.push({}),
        "LIST": lambda r, _: r.push(r.to_mark()),
        "TUPLE": lambda r, _: r.push(tuple(r.to_mark())),
        "TUPLE1": lambda r, _: r.push(tuple(r.top(1))),
        "TUPLE2": lambda r, _: r.push(tuple(r.top(2))),
        "TUPLE3": lambda r, _: r.push(tuple(r.top(3))),
        "APPEND": lambda r, _: r.append(r.top(1)),
        "APPENDS": lambda r, _: r.append(r.to_mark()),
        "SETITEM": lambda r, _: r.set_items(r.top(2)),
        "SETITEMS": lambda r, _: r.set_items(r.to_mark()),
        "GLOBAL": lambda r, words: r.named(words),
        "STACK_GLOBAL": lambda r, _: r.stack_named(),
        "REDUCE": lambda r, _: r.call(),
        "BUILD": lambda r, _: r.build(),
    }  # fmt: skip

    def a_dict(reader: _Reader, _: Any) -> None:
        values = reader.to_mark()
        reader.push({})
        reader.set_items(values)

    return {**steps, "DICT": a_dict}
