"""Pickles of plain values: the opcodes that results files and word lists of this field contain, and no others.

An unpickler builds whatever a file names. An allow-list of classes does not help: numpy's own `dtype` takes a state that
corrupts memory. So Python's unpickler (the one written in Python) is left with opcodes that hold values, what a pickle calls
a class or function is one of seven functions of this file, and those make arrays and numbers from checked values. Classes
that a reader knows by name stand for shells: what a file gives them is kept, and the reader makes a plain value of it.
"""

import io
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protos.reading import FileError, Source, name_of, read_bytes, size

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 4 << 30
MOST_READS = 150_000_000  # two or three to an opcode: a vocabulary of GloVe has 400,000 words
# Absent are all opcodes that build objects, and persistent and extension codes.
_OPCODES = re.findall(r"\w+", """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES
    BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 NONE NEWTRUE NEWFALSE MARK POP EMPTY_LIST EMPTY_TUPLE
    EMPTY_DICT LIST TUPLE TUPLE1 TUPLE2 TUPLE3 DICT APPEND APPENDS SETITEM SETITEMS GET BINGET LONG_BINGET PUT BINPUT
    LONG_BINPUT MEMOIZE PROTO GLOBAL STACK_GLOBAL STOP
""")
_UNFINISHED = object()
# Name of a class -> what makes a value of an object's state, of which it asks for entries by name; None: a class not known.
Shells = Callable[[str], Callable[[Callable[[str], Any]], Any] | None]


def read_plain_pickle(source: Source, name: str | None = None, skip: int = 0, shells: Shells = lambda name: None) -> Any:
    """Dicts, lists, tuples, text, numbers, bytes and numpy arrays of numbers or text in a pickle (protocols 0 to 5).

    `skip` bytes at the start are not part of it (the header of a .npy of objects). shells: other classes that it may name; of
    their objects only the state is read. FileError for anything else, a pickle that is damaged, or one that refers to itself;
    nothing in it is run.
    """
    name = name or name_of(source)
    if isinstance(source, (str, Path)) and Path(source).stat().st_size > MOST_BYTES:
        raise FileError(f"{name}: larger than {size(MOST_BYTES)}")
    data = read_bytes(source, MOST_BYTES, name)[skip:]
    try:
        reader = _Reader(_Counted(data), encoding="latin1")
        reader.shells = shells
        return reader.finished(reader.load())
    except _Refused as error:
        raise FileError(f"{name}: a pickle that {error}: only plain values and arrays are read") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, EOFError, struct.error,
            pickle.PickleError) as error:  # fmt: skip
        reason = str(error).split("\n")[0][:120]
        raise FileError(f"{name}: not a pickle of plain values and arrays, or a damaged one ({reason})") from None


class _Refused(ValueError):
    """What no file of this field asks for."""


class _Counted(io.BytesIO):
    """The bytes of a pickle, whose opcodes are not without end."""

    reads = 0

    def read(self, count: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MOST_READS:
            raise _Refused(f"holds more than {MOST_READS // 3} values")
        return super().read(count)


class _Kind:
    """A numpy dtype in the making: its letters come with the call, its byte order with the state."""

    def __init__(self, letters: str):
        self.letters, self.order = letters, "="

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("an unknown dtype")
        self.order = state[1]

    def dtype(self) -> "np.dtype":
        import numpy as np

        return np.dtype(self.letters).newbyteorder(self.order if self.order in "<>" else "=")


class _Array:
    """A numpy array in the making: empty until its state (version, shape, dtype, Fortran order, bytes) comes."""

    def __init__(self, reader: "_Reader", value: "np.ndarray | None" = None):
        self.reader, self.value = reader, value

    def set_state(self, state: Any) -> None:
        _version, shape, kind, fortran, content = state
        self.value = self.reader.array(content, kind, shape, "F" if fortran else "C")


class _ShellClass:
    """A class that a reader knows by name; calling it gives a shell."""

    def __init__(self, make: Callable[[Callable[[str], Any]], Any]):
        self.make = make


class _Shell:
    """An object in the making: the state that the file gives it, or none."""

    def __init__(self, kind: _ShellClass):
        self.kind, self.state = kind, {}

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError("an object whose state is no dict")
        self.state = state


class _Opcodes(dict):
    def __missing__(self, code: int) -> Any:
        opcode = pickletools.code2op.get(chr(code))
        raise _Refused(f"does more than hold values ({opcode.name if opcode else code})")


class _Reader(pickle._Unpickler):
    """The unpickler without what builds objects."""

    dispatch = _Opcodes({code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _OPCODES)})
    dispatch[pickle.BYTEARRAY8[0]] = pickle._Unpickler.load_binbytes8  # its own makes room for as many bytes as are claimed
    dispatch[pickle.FRAME[0]] = lambda self: self.read(8)

    shells: Shells

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        self.made = 0  # bytes of arrays
        self.done: dict[int, tuple[Any, Any]] = {}  # id -> (container, its final form)
        self.calls = {
            "numpy.dtype": self._dtype, "numpy.ndarray": self._ndarray, "_codecs.encode": self._encode,
            "numpy.core.multiarray._reconstruct": self._reconstruct, "numpy.core.multiarray.scalar": self._scalar,
            "numpy.core.numeric._frombuffer": self._frombuffer, "copy_reg._reconstructor": self._reconstructor,
        }  # fmt: skip

    # ------------------------------------------------------------------------------------------- the few calls there are

    def find_class(self, module: str, name: str) -> Any:
        words = f"{module}.{name}"
        call = self.calls.get(re.sub(r"^numpy\._core\.", "numpy.core.", words).replace("copyreg.", "copy_reg."))
        make = self.shells(words) if call is None else None
        if call is None and make is None:
            raise _Refused(f"asks for {words}")
        return call or _ShellClass(make)

    def load_reduce(self) -> None:
        arguments, call = self.stack.pop(), self.stack.pop()
        if isinstance(call, _ShellClass):
            self.append(_Shell(call))
            return
        if call not in self.calls.values() or not isinstance(arguments, tuple):
            raise ValueError("it calls what is no function")
        self.append(call(*arguments))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, (_Kind, _Array, _Shell)):
            raise ValueError("it gives a state to what has none")
        target.set_state(state)

    def load_newobj(self) -> None:
        _arguments, kind = self.stack.pop(), self.stack.pop()
        self.append(self._reconstructor(kind))

    dispatch[pickle.REDUCE[0]], dispatch[pickle.BUILD[0]], dispatch[pickle.NEWOBJ[0]] = load_reduce, load_build, load_newobj

    def _reconstructor(self, kind: Any, *_base_and_state: Any) -> _Shell:  # how protocols 0 and 1 make an object
        if not isinstance(kind, _ShellClass):
            raise ValueError("it makes an object of what is no class")
        return _Shell(kind)

    def _dtype(self, letters: Any, *_flags: Any) -> _Kind:
        if isinstance(letters, bytes):
            letters = letters.decode("ascii")
        if not isinstance(letters, str) or not re.fullmatch(r"[fiubcUSO]\d{0,6}", letters):
            raise ValueError(f"arrays of {letters!r}")
        return _Kind(letters)

    def _ndarray(self, *_: Any) -> None:
        raise ValueError("it makes an array without numbers")

    def _reconstruct(self, kind: Any, *_shape_and_letter: Any) -> _Array:
        if kind != self._ndarray:
            raise ValueError("it makes something else than an array")
        return _Array(self)

    def _frombuffer(self, content: Any, kind: Any, shape: Any, order: Any) -> _Array:
        return _Array(self, self.array(content, kind, shape, order))

    def _scalar(self, kind: Any, content: Any) -> Any:
        return self.array(content, kind, (), "C")[()]

    def _encode(self, text: Any, encoding: Any) -> bytes:  # how Python 2 and protocol 2 hold bytes
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError("an unknown encoding")
        return text.encode("latin1")

    def array(self, content: Any, kind: Any, shape: Any, order: Any) -> "np.ndarray":
        """The array of `shape` whose bytes (or values, for one of objects: a results file is one of shape ()) are `content`."""
        import numpy as np

        if not isinstance(kind, _Kind) or not isinstance(shape, tuple) or order not in ("C", "F"):
            raise ValueError("an array without kind or shape")
        if len(shape) > 32 or not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"an array of shape {shape}")
        if kind.letters.startswith("O"):
            if not isinstance(content, list) or len(content) != math.prod(shape):
                raise ValueError("an array of values without its values")
            array = np.empty(len(content), object)
            for place, value in enumerate(content):
                array[place] = self.finished(value)
            return array.reshape(shape, order=order)
        dtype = kind.dtype()
        if isinstance(content, str):  # Python 2's bytes
            content = content.encode("latin1")
        if not isinstance(content, bytes) or len(content) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} whose content has another size")
        self.made += len(content)
        if self.made > MOST_BYTES:
            raise _Refused(f"holds arrays of more than {size(MOST_BYTES)}")
        return np.frombuffer(bytearray(content), dtype).reshape(shape, order=order)

    def finished(self, value: Any) -> Any:
        """The value with its arrays in place of those in the making. ValueError for a function, and for what holds itself."""
        import numpy as np

        if isinstance(value, _Array):
            if value.value is None:
                raise ValueError("an array without content")
            return value.value
        if value is None or isinstance(value, (str, bytes, int, float, np.generic)):
            return value
        if type(value) not in (dict, list, tuple, _Shell):
            raise _Refused("holds a function or class")
        # Once for each container, however often it is referred to: else ten lists of ten references make 10^10 values.
        _, done = self.done.get(id(value), (None, None))
        if done is None:
            self.done[id(value)] = (value, _UNFINISHED)
            if type(value) is dict:
                done = {self.finished(key): self.finished(each) for key, each in value.items()}
            elif type(value) is _Shell:
                done = value.kind.make(lambda entry: self.finished(value.state.get(entry)))
            else:
                done = type(value)(map(self.finished, value))
            self.done[id(value)] = (value, done)
        if done is _UNFINISHED:
            raise _Refused("holds itself")
        return done
