"""Names that come from files or people are data, never paths: the one place where a text becomes a file name."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Container
from pathlib import Path

from protos.reading import FileError

LONGEST = 120  # characters: with a suffix and a temporary prefix it stays below the 255 bytes of every file system
# Names that Windows keeps for devices, whatever their suffix.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{device}{n}" for device in ("com", "lpt") for n in range(1, 10))}


def short_hash(text: str) -> str:
    """Eight characters that tell apart files whose names would be the same."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def safe_name(text: str, taken: Container[str] = (), longest: int = LONGEST) -> str:
    """A file name (no folder, no suffix) for any text, unlike those in `taken`, whatever the case of their letters.

    A name that is safe as it stands is kept: letters of any language, digits, `_`, `-`, `.`, `+`, `(`, `)`, `,`, `=`, `@` and
    single spaces within. Of others the safe part is kept and a hash added, so that two of them never become the same.
    """
    plain = unicodedata.normalize("NFC", text)
    kept = re.sub(r"[^\w\-.+(),=@ ]", "-", plain)
    kept = re.sub(r" +", " ", kept).strip(" .-") if kept != text or kept != kept.strip(" .") else kept
    kept = kept.encode("utf-8", "ignore").decode().lstrip(".-")
    if len(kept.encode()) > longest:
        kept = kept.encode()[: longest - 9].decode("utf-8", "ignore").rstrip(" .")
    name = kept or "unnamed"
    if name != text or name.split(".")[0].lower() in _DEVICES:
        name = f"{name}-{short_hash(text)}"
    number = 2
    unique = name
    while unique.lower() in taken or unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique


def file_name(text: str, longest: int = 48) -> str:
    """A short file name for a text of people: lower-case words joined by '-', never a path; other texts may have the same."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = ""
    for word in re.findall(r"[a-z0-9]+", plain):
        if name and len(name) + 1 + len(word) > longest:
            break
        name = f"{name}-{word[:longest]}" if name else word[:longest]
    return name or "prompt"


def inside(folder: Path, name: str, reading: bool = False) -> Path:
    """The path of `name` (it may have `/` in it) inside `folder`, links followed. FileError where it leads out of it.

    reading: links are not followed, since those in a folder that is only read are its owner's (datasets kept as links).
    """
    folder = Path(folder)
    path = folder / name
    # Lexically first: on a name such as "a/../../b" the folder a need not exist.
    if leads_out(name) or not (reading or _is_within(os.path.realpath(path), os.path.realpath(folder))):
        raise FileError(f"{folder}: the name {shown(name)} leads out of this folder: not used")
    return path


def _is_within(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def leads_out(name: str) -> bool:
    """Whether a name, by itself, leads out of any folder or is none of a file; `inside` also follows links."""
    lexical = os.path.normpath(name)
    return bool(
        not name or lexical == "." or lexical.split(os.sep)[0] == ".." or os.path.isabs(name)
        or re.match(r"[A-Za-z]:|\\", name) or "\0" in name
    )  # fmt: skip


def printable(text: str) -> str:
    """A text from a file as it may be printed: a space for each line end, control character and half of a pair."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def shown(text: object, longest: int = 60) -> str:
    """A text from a file as errors show it: quoted, control characters escaped, cut."""
    quoted = repr(str(text))
    return quoted if len(quoted) <= longest else f"{quoted[: longest - 2]}…'"
