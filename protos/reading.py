"""The way in: text, JSON, TOML and numpy files, each bounded, checked and named in the error before anything is built from it.

Nothing read here can run code: object arrays are refused before their content is looked at (protos/pickles.py reads the
two kinds of pickle that this field really exchanges). A file is read once; what comes back is plain and of the type asked for.
"""

import io
import math
import re
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
Source = str | Path | bytes | BinaryIO

MOST_TEXT = 256 << 20  # bytes of a text, JSON or TOML file: the captions of HumanML3D are 20 MB
MOST_ARRAYS = 16 << 30  # bytes that the arrays of one file may take in memory
MOST_PACKED, MOST_TIMES = 256 << 20, 100  # what more than so many bytes of an array were packed into is that much smaller at most
MOST_HEADER = 10_000  # bytes of a .npy header; numpy's own limit
DEEPEST = 64  # lists and dicts of a file within each other
LONGEST_MESSAGE = 900  # characters of an error
TOO_DEEP = "nested too deep, expected plain lists and dicts"


class FileError(ValueError):
    """A file that cannot be used: the message is one line that names it and says what was expected.

    What a file brings into a message can neither break the line, nor colour a terminal, nor fill it.
    """

    def __init__(self, message: str):
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
        super().__init__(line if len(line) <= LONGEST_MESSAGE else f"{line[:LONGEST_MESSAGE - 200]} … {line[-190:]}")


def first_line(error: BaseException) -> str:
    """What a library says went wrong, without its further lines."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# ------------------------------------------------------------------------------------------------------------------- text


def read_bytes(source: Source, most: int = MOST_TEXT, name: str | None = None) -> bytes:
    """All bytes of a file. Raises FileError where there are more than `most`, OSError where it cannot be opened."""
    if isinstance(source, bytes):
        data, name = source, name or "data"
    elif isinstance(source, (str, Path)):
        name = name or str(source)
        with open(source, "rb") as file:
            data = _read(file, most + 1)
    else:
        name = name or name_of(source)
        data = _read(source, most + 1)
    if len(data) > most:
        raise FileError(f"{name}: larger than {size(most)}, which is more than such a file can need")
    return data


def _read(file: BinaryIO, most: int) -> bytes:
    """At most `most` bytes. In parts: `file.read(n)` takes n bytes of memory however small the file is."""
    parts = []
    while most > 0 and (part := file.read(min(most, 16 << 20))):
        parts.append(part)
        most -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_text(source: Source, most: int = MOST_TEXT, name: str | None = None) -> str:
    """The text of a UTF-8 file, with or without a byte order mark. FileError names a file in another encoding."""
    name = name or name_of(source)
    return decode_text(read_bytes(source, most, name), name)


def decode_text(data: bytes, name: str) -> str:
    """Bytes of a file called `name` as text, as in `read_text`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise FileError(f"{name}: is UTF-16 text, expected UTF-8: save it as UTF-8") from None
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError(f"{name}, line {line}: not UTF-8 text (byte {data[error.start]:#04x}; Windows-1252 or Latin-1?): "
                        "save it as UTF-8") from None
    if text.startswith(LFS_POINTER):
        raise FileError(f"{name}: {LFS_ADVICE}")
    if text[:200].lstrip().lower().startswith(("<!doctype", "<html")):
        raise FileError(f"{name}: is an HTML page, not the file: the download asked for a login or a confirmation")
    if "\0" in text:
        raise FileError(f"{name}: holds zero bytes, which no text does; is it a binary file or UTF-16?")
    return text


def read_lines(source: Source, most: int = MOST_TEXT, name: str | None = None) -> list[str]:
    """Lines of a UTF-8 file without their ends; only LF, CRLF and CR end a line, so that any other character may be in it."""
    lines = re.split("\r\n|\n|\r", read_text(source, most, name))
    return lines[:-1] if lines[-1] == "" else lines


def read_names(source: Source) -> list[str]:
    """Names of a list file (a split, say): one a line, as it stands but for blanks at its ends; blank lines are passed over."""
    return [line.strip() for line in read_lines(source) if line.strip()]


# ------------------------------------------------------------------------------------------------------ JSON, JSON lines, TOML


def read_json(source: Source, kind: type[T] | Any = Any, most: int = MOST_TEXT, name: str | None = None) -> T:
    """A JSON file decoded as `kind` (a dataclass, `dict[str, int]`, …): strict types, finite numbers, checks of dataclasses.

    FileError names the file and, where the JSON is well formed, the field and what was expected there.
    """
    name = name or name_of(source)
    return decode_json(read_bytes(source, most, name), kind, name)


def decode_json(data: bytes | str, kind: type[T] | Any, name: str) -> T:
    """JSON text of a file called `name` as `kind`, as in `read_json`."""
    import msgspec

    if isinstance(data, bytes):
        data = decode_text(data, name)
    text = data.lstrip()
    if text[:1] == "<":
        raise FileError(f"{name}: is an HTML or XML page, expected JSON; download the file itself")
    try:
        content = msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise FileError(f"{name}: {plain_words(error)}") from None
    except RecursionError:
        raise FileError(f"{name}: {TOO_DEEP}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise FileError(f"{name}: not readable JSON ({_where(str(error), text)})") from None
    return _shallow(content, name) if kind is Any else content


def convert(content: Any, kind: type[T] | Any, name: str) -> T:
    """Plain dicts, lists and values as `kind`. FileError names the field and what was expected."""
    import msgspec

    try:
        return msgspec.convert(content, type=kind, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise FileError(f"{name}: {plain_words(error)}") from None


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)


def read_json_lines(path: str | Path, kind: type[T] | Any = Any) -> Iterator[T]:
    """The records of a file of one JSON value a line. A last line without an end was cut short by a kill: it is left out."""
    data = read_bytes(path)
    whole, _, _ = data.rpartition(b"\n")
    for number, line in enumerate(whole.split(b"\n"), start=1):
        if line.strip():
            yield decode_json(line, kind, f"{path}, line {number}")


def read_toml(source: Source, kind: type[T] | Any = Any, name: str | None = None) -> T:
    """A TOML file as `kind`, as `read_json`."""
    name = name or name_of(source)
    text = read_text(source, 1 << 20, name)
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise FileError(f"{name}: {TOO_DEEP}") from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise FileError(f"{name}: not readable TOML ({str(error)[:200]})") from None
    return convert(_shallow(content, name), kind, name)


def plain_words(error: Exception) -> str:
    """'num_layers: expected int, got str' from msgspec's 'Expected `int`, got `str` - at `$.num_layers`'."""
    text, _, place = str(error).partition(" - at `")
    field = re.sub(r"^\$\.?", "", place.rstrip("`"))
    text = text.replace("`", "").replace("Expected", "expected").replace("Object missing required field", "missing field")
    text = re.sub(r"^(Invalid|Number|Length|Unexpected)", lambda match: match[0].lower(), text)
    return f"{field}: {text}" if field else text


def _shallow(content: T, name: str) -> T:
    """The content itself. FileError where lists and dicts lie within each other too deep for whoever walks through it."""
    level: list[Any] = [content] if isinstance(content, (dict, list)) else []
    for _ in range(DEEPEST):
        within = (part for each in level for part in (each.values() if isinstance(each, dict) else each))
        level = [part for part in within if isinstance(part, (dict, list))]
        if not level:
            return content
    raise FileError(f"{name}: {TOO_DEEP}")


def _where(error: str, text: str) -> str:
    """msgspec's words with line and column in place of a byte offset."""
    place = re.search(r" \(byte (\d+)\)", error)
    if not place:
        return error
    before = text.encode("utf-8", "surrogatepass")[: int(place[1])]
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    return f"{error[: place.start()].removeprefix('JSON is malformed: ')}, line {line}, column {column}"


# ------------------------------------------------------------------------------------------------------------ numpy's files


def read_array(
    source: Source,
    *,
    name: str | None = None,
    shape: tuple[int | None, ...] | None = None,
    kinds: str = "fiu",
    mmap: bool = False,
    finite: bool = False,
    most: int = MOST_ARRAYS,
) -> "np.ndarray":
    """The array of a .npy file in this machine's byte order; memory-mapped (read-only) with `mmap`, where the file has it too.

    The header is read first: kind of numbers, shape and size are checked before anything is allocated. shape: what is
    expected, None for any length; kinds: numpy's letters of the kinds that will do. FileError says what is wrong.
    """
    import numpy as np

    name = name or name_of(source)
    with _opened(source, most, name) as file:
        total = file.seek(0, io.SEEK_END)
        file.seek(0)
        header = _npy_header(file, total, name, kinds, most)
        if mmap and isinstance(source, (str, Path)) and math.prod(header.shape) and header.dtype.isnative:
            array = np.memmap(source, header.dtype, "r", file.tell(), header.shape, "F" if header.fortran else "C")
        else:
            array = _npy_body(file, header)
    return check_array(array, name, shape=shape, finite=finite)


def _opened(source: Source, most: int, name: str) -> BinaryIO:
    """A binary file of the source, from its start."""
    return open(source, "rb") if isinstance(source, (str, Path)) else io.BytesIO(read_bytes(source, most, name))


def check_array(array: "np.ndarray", name: str, *, shape: tuple[int | None, ...] | None = None, finite: bool = False) -> Any:
    """The array itself. FileError where its shape is not the expected one or, with `finite`, it holds NaN or infinity."""
    import numpy as np

    if shape is not None:
        fits = len(shape) == array.ndim and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
        if not fits:
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise FileError(f"{name}: shape {array.shape}, expected ({wanted}{',' if len(shape) == 1 else ''})")
    if finite and array.dtype.kind == "f":
        bad = ~np.isfinite(array)
        if bad.any():
            place = ", ".join(str(int(i)) for i in np.argwhere(bad)[0])
            raise FileError(f"{name}: NaN or infinity at [{place}], expected finite numbers")
    return array


def read_arrays(
    source: Source,
    *,
    name: str | None = None,
    only: Collection[str] | None = None,
    kinds: str = "fiubUS",
    finite: bool = False,
    most: int = MOST_ARRAYS,
) -> "dict[str, np.ndarray]":
    """The arrays of a .npz file by name, each checked as in `read_array` before it is unpacked; together at most `most` bytes.

    only: the names that are wanted; others are neither unpacked nor checked, and one that is absent is left out.
    """
    name = name or name_of(source)
    arrays: dict[str, np.ndarray] = {}
    with _opened(source, most, name) as stream:
        _refuse_other_formats(stream.read(MOST_START), name)
        try:
            with zipfile.ZipFile(stream) as archive:
                for member in archive.infolist():
                    key = member.filename.removesuffix(".npy")
                    if only is not None and key not in only:
                        continue
                    with archive.open(member) as file:
                        header = _npy_header(file, member.file_size, f"{name}, array {key}", kinds, most)
                        if member.file_size > max(MOST_PACKED, MOST_TIMES * member.compress_size):
                            raise FileError(f"{name}, array {key}: {size(member.compress_size)} unpack to "
                                            f"{size(member.file_size)}, more than such an array can need")  # fmt: skip
                        most -= math.prod(header.shape) * header.dtype.itemsize
                        arrays[key] = check_array(_npy_body(file, header), f"{name}, array {key}", finite=finite)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, OSError) as error:
            raise FileError(f"{name}: not a readable .npz archive ({str(error)[:120]})") from None
    return arrays


class _Header(NamedTuple):
    """What a .npy header states, after it was checked against the size of its file."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: "np.dtype"
    name: str


def _npy_header(file: Any, total: int, name: str, kinds: str, most: int) -> _Header:
    """Reads and checks the header at the start of `file`, which holds `total` bytes."""
    from numpy.lib import format as npy

    start = file.read(8)
    if start[:6] != npy.MAGIC_PREFIX:
        _refuse_other_formats(start + file.read(MOST_START), name)
        raise FileError(f"{name}: not a .npy array" if total else f"{name}: is empty, expected a .npy array")
    if start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):  # 3.0 differs in names of columns, which are refused
        raise FileError(f"{name}: .npy format {'.'.join(map(str, start[6:]))}, expected 1.0 to 3.0")
    read_header = npy.read_array_header_1_0 if start[6] == 1 else npy.read_array_header_2_0
    try:
        shape, fortran, dtype = read_header(file, max_header_size=MOST_HEADER)
    except Exception as error:  # numpy reads a literal of Python, which can be wrong in any way; of 10,000 letters at most
        raise FileError(f"{name}: its .npy header is cut short, too long or damaged ({first_line(error)})") from None
    if dtype.hasobject:
        raise FileError(f"{name}: holds pickled Python objects, expected an array of numbers")
    if not dtype.itemsize or dtype.kind not in kinds:
        raise FileError(f"{name}: holds {dtype} values, expected {_KINDS.get(kinds, 'numbers')}")
    claimed, left = math.prod(shape) * dtype.itemsize, total - file.tell()
    if len(shape) > 32 or not all(type(n) is int and 0 <= n <= 1 << 40 for n in shape) or claimed > left:
        raise FileError(f"{name}: claims an array {shape} of {size(claimed)}, the file holds {size(left)} (cut short?)")
    if claimed > most:
        raise FileError(f"{name}: an array {shape} of {size(claimed)}, more than the {size(most)} allowed")
    return _Header(shape, fortran, dtype, name)


_KINDS = {"f": "floating-point numbers", "iu": "whole numbers", "U": "text"}


def _npy_body(file: Any, header: _Header) -> "np.ndarray":
    import numpy as np

    count = math.prod(header.shape) * header.dtype.itemsize
    data = file.read(count)
    if len(data) < count:
        raise FileError(f"{header.name}: ends after {size(len(data))} of {size(count)} (cut short?)")
    if not count:
        return np.zeros(header.shape, header.dtype)
    array = np.frombuffer(bytearray(data), header.dtype)
    if header.dtype.kind == "U" and not _is_text(array.view(f"{header.dtype.byteorder}u4")):
        raise FileError(f"{header.name}: holds text with characters that do not exist (damaged?)")
    array = array.reshape(header.shape, order="F" if header.fortran else "C")
    return array if header.dtype.isnative else array.astype(header.dtype.newbyteorder("="))


def _is_text(characters: "np.ndarray") -> bool:
    """Whether numbers are characters: none beyond Unicode (Python would stop with a SystemError), no half of a pair."""
    return not ((characters > 0x10FFFF) | ((characters >= 0xD800) & (characters < 0xE000))).any()


# ------------------------------------------------------------------------------------------------- what a file really is

LFS_POINTER = "version https://git-lfs.github.com"
LFS_ADVICE = "is a git-LFS pointer, not the file: run git lfs pull in that repository, or download the file itself"
MOST_START = 512


def _refuse_other_formats(start: bytes, name: str) -> None:
    """FileError for what is often found in place of a binary file: a page of a web server, a git-LFS pointer, an empty file."""
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise FileError(f"{name}: is an HTML page, not the file: the download asked for a login or a confirmation")
    if start.startswith(LFS_POINTER.encode()):
        raise FileError(f"{name}: {LFS_ADVICE}")
    if start.startswith(b"\x93NUMPY"):
        raise FileError(f"{name}: is a .npy array, not what its name says")


def refuse_other_formats(path: str | Path) -> None:
    """FileError where the file is a web page, a git-LFS pointer or empty, whatever was expected."""
    with open(path, "rb") as file:
        start = file.read(MOST_START)
    if not start:
        raise FileError(f"{path}: is empty")
    _refuse_other_formats(start, str(path))


def name_of(source: Source) -> str:
    """What errors call a source: its path, the name of an open file, or 'data'."""
    if isinstance(source, (str, Path)):
        return str(source)
    return str(getattr(source, "name", "data"))


def size(count: int) -> str:
    """A number of bytes in words: '3.2 MB'."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
