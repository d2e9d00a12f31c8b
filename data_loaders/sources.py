"""Where raw clips come from: each source yields `SourceClip`s with captions, split and the mapping that retargets them.

A source only lists and labels; reading and converting happen in `prepare`, clip by clip, in worker processes.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BVH_SUFFIXES = (".bvh",)


@dataclass(frozen=True)
class SourceClip:
    """One raw recording: its bytes or path, how to read it (`kind`) and what is known about it."""

    name: str
    data: bytes | Path
    kind: str  # bvh | amass | joints
    mapping: str | None = None
    captions: tuple[str, ...] = ()
    split: str = "train"
    labels: dict = field(default_factory=dict)
    first_frame: int = 0
    fps: float | None = None


@dataclass(frozen=True)
class Labels:
    """What a pack says about its clips, read from its captions.json and split lists where they exist."""

    clips: dict[str, dict]
    splits: dict[str, str]
    excluded: frozenset[str]

    @staticmethod
    def read(folder: Path, captions: Path | None = None) -> "Labels":
        """Raises ValueError naming the file when captions.json is not what it should be."""
        path = captions or folder / "captions.json"
        clips = {}
        if path.is_file():
            try:
                content = json.loads(path.read_text())
                clips = content.get("clips", content)
            except (json.JSONDecodeError, AttributeError) as error:
                raise ValueError(f"{path}: not a caption file ({error}); expected JSON {{'clips': {{NAME: ...}}}}") from None
        splits = {}
        for split in ("train", "val", "test"):
            listing = folder / f"{split}.txt"
            if listing.is_file():
                splits.update(dict.fromkeys(listing.read_text().split(), split))
        excluded = folder / "excluded.txt"
        names = frozenset(
            line.split()[0] for line in (excluded.read_text().splitlines() if excluded.is_file() else []) if line.strip()
        )
        return Labels(clips, splits, names)

    def split_of(self, name: str, block: str = "") -> str:
        """The listed split, else the clip's own, else one of 80/5/15 % drawn from a hash of the block (default: name)."""
        if name in self.splits:
            return self.splits[name]
        if "split" in self.clips.get(name, {}):
            return self.clips[name]["split"]
        draw = int(hashlib.sha256((block or name).encode()).hexdigest()[:8], 16) % 100
        return "train" if draw < 80 else "val" if draw < 85 else "test"


def files_in(folder: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes | Path]]:
    """(name without suffix, path or bytes) of every such file below a folder, tar archives read in place, in name order.

    Raises FileNotFoundError where there is none and ValueError for a broken archive.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder (--input)")
    found = False
    seen: set[str] = set()
    archives = [p for p in sorted(folder.iterdir()) if p.name.endswith((".tar.xz", ".tar.gz", ".tar.bz2", ".tar"))]
    for path in archives:
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = Path(member.name)
                    if member.isfile() and name.suffix.lower() in suffixes and name.stem not in seen:
                        found = True
                        seen.add(name.stem)
                        yield name.stem, archive.extractfile(member).read()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(f"{path}: not a readable archive ({error}); fetch it again") from None
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes):
        if path.stem not in seen:
            found = True
            seen.add(path.stem)
            yield path.stem, path
    if not found:
        raise FileNotFoundError(f"{folder}: holds neither {'/'.join(suffixes)} files nor archives of them")


def bandai_namco(folder: Path, labels: Labels) -> Iterator[SourceClip]:
    """The Bandai-Namco-Research-Motiondataset, as cloned or repacked. Kobayashi et al. 2022, arXiv 2306.08861."""
    for name, data in files_in(folder, BVH_SUFFIXES):
        known = labels.clips.get(name)
        if known is None:
            known = _bandai_namco_label(name)
        if name in labels.excluded or known is None:
            continue
        facts = {key: known[key] for key in ("content", "style", "take") if key in known}
        # Takes are cut from continuous recordings: neighbours go to the same split.
        block = f"{facts.get('content')} {facts.get('style')} {facts.get('take', 0) // 8}"
        split = labels.split_of(name, block)
        yield SourceClip(name, data, "bvh", "bandai_namco", tuple(known["captions"]), split, facts)


def cmu_sample(folder: Path, labels: Labels) -> Iterator[SourceClip]:
    """CMU clips in the two common BVH conversions, told apart by their prefix."""
    for name, data in files_in(folder, BVH_SUFFIXES):
        known = labels.clips.get(name, {})
        mapping = "cmu_cgspeed" if name.startswith("cgspeed") else "cmu_iclone"
        yield SourceClip(
            name, data, "bvh", mapping, tuple(known.get("captions", ())), labels.split_of(name),
            {"content": known.get("cmu_description", name)}, int(known.get("first_frame", 0)),
        )  # fmt: skip


def any_folder(folder: Path, labels: Labels, kind: str, mapping: str | None, fps: float | None) -> Iterator[SourceClip]:
    """A user's own folder of .bvh, AMASS .npz or joints .npy; captions from captions.json or NAME.txt beside the clip."""
    suffixes = {"bvh": BVH_SUFFIXES, "amass": (".npz",), "joints": (".npy",)}[kind]
    for name, data in files_in(folder, suffixes):
        known = labels.clips.get(name, {})
        captions = tuple(known.get("captions", ()))
        beside = data.with_suffix(".txt") if isinstance(data, Path) else None
        if not captions and beside is not None and beside.is_file():
            captions = tuple(line.split("#")[0].strip() for line in beside.read_text().splitlines() if line.strip())
        yield SourceClip(
            name, data, kind, mapping, captions, labels.split_of(name), known.get("labels", {}),
            int(known.get("first_frame", 0)), fps,
        )  # fmt: skip


# What the file names of the Bandai-Namco set say, for clones that come without a caption file.
_CONTENTS = {
    "bow": "bows", "bye": "waves goodbye with the right hand", "byebye": "waves goodbye with both hands",
    "call": "puts both hands around the mouth and calls out", "dance-short": "dances", "dance-long": "dances",
    "dash": "sprints forward", "guide": "shows the way with the right hand", "kick": "kicks with the right leg",
    "punch": "throws punches", "respond": "raises the left hand to respond", "run": "runs forward",
    "slash": "slashes with a sword held in both hands", "walk": "walks forward", "walk-back": "walks backward",
    "walk-left": "walks diagonally to the left", "walk-right": "walks diagonally to the right",
    "walk-turn-left": "walks forward and turns left", "walk-turn-right": "walks forward and turns right",
    "wave-left-hand": "waves the left hand", "wave-right-hand": "waves the right hand",
    "wave-both-hands": "waves both hands", "raise-up-left-hand": "raises the left hand",
    "raise-up-right-hand": "raises the right hand", "raise-up-both-hands": "raises both hands",
}  # fmt: skip
_STYLES = {
    "chimpira": "like a street thug", "musical": "as on a musical stage", "normal": "", "not-confident": "without confidence",
    "giant": "like a giant", "masculinity": "in a masculine manner",
}  # fmt: skip


def _bandai_namco_label(name: str) -> dict | None:
    parts = name.split("_")
    if len(parts) != 4 or parts[1] not in _CONTENTS or not parts[3].isdigit():
        return None
    manner = _STYLES.get(parts[2], f"in a {parts[2]} manner")
    sentence = f"{_CONTENTS[parts[1]]} {manner}".strip()
    captions = [f"a person {sentence}", f"someone {sentence}", f"the person {sentence}"]
    return {"content": parts[1], "style": parts[2], "take": int(parts[3]), "captions": captions}
