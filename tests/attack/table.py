"""The attack: mutated files given to every command, and a table of how the commands ended."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.attack.mutations import Mutation, mutations
from tests.attack.runner import Ending, contents, run
from tests.attack.scenarios import SCENARIOS, Scenario

ACCEPTED = (0, 1, 2, 3)


@dataclass(frozen=True)
class Case:
    """One mutated file, how the command ended, and what is wrong with that ('' where nothing is)."""

    scenario: str
    target: str
    kind: str
    ending: Ending
    fault: str


def attack(inputs: Path, work: Path, seed: int, cases: int) -> Iterator[Case]:
    """About `cases` cases over all scenarios, in the order of the scenarios; `work` is used and emptied for each."""
    rng = np.random.default_rng(seed)
    shares = [(scenario, target) for scenario in SCENARIOS for target in targets_of(inputs, scenario)]
    total = sum(scenario.weight for scenario, _ in shares)
    for scenario, target in shares:
        count = max(1, round(cases * scenario.weight / total))
        for mutation in mutations(inputs / scenario.base / target, rng, count, work / "mine"):
            yield attempt(inputs, work, scenario, target, mutation)


def targets_of(inputs: Path, scenario: Scenario) -> list[str]:
    """The files to attack that this version of the program has (a manifest, say, may be absent)."""
    base = inputs / scenario.base
    return [str(path.relative_to(base)) for pattern in scenario.targets for path in sorted(base.glob(pattern))[:2]]


def attempt(inputs: Path, work: Path, scenario: Scenario, target: str, mutation: Mutation) -> Case:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(inputs / scenario.base, work / "in")
    (work / "mine").mkdir()
    for name in ("notes.txt", "train.txt", "x.npy", "thesis.tex"):
        (work / "mine" / name).write_text("mine")
    path = work / "in" / target
    if mutation.data is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(mutation.data)
    before = contents(work)
    ending = run(scenario.module, scenario.arguments.split(), work / scenario.cwd)
    fault = _fault(scenario, path, mutation, ending, before, contents(work), work)
    return Case(scenario.name, target, mutation.kind, ending, fault)


def _fault(
    scenario: Scenario, path: Path, mutation: Mutation, ending: Ending, before: dict[str, str], after: dict[str, str], work: Path
) -> str:
    """What the program did wrong, in a few words."""
    if ending.escaped:
        return f"escaped: {ending.escaped}"
    if "Traceback (most recent" in ending.said:
        return "a traceback was printed"
    if ending.code not in ACCEPTED:
        return f"exit code {ending.code}: {ending.said[-400:]}"
    changed = [name for name, content in before.items() if after.get(name) != content]
    allowed = tuple(f"in/{name}" for name in scenario.writes)
    if lost := [name for name in changed if not (allowed and name.startswith(allowed))]:
        return f"changed or removed: {lost}"
    if new := [name for name in after if name not in before and not name.startswith(("out", "outputs", *allowed))]:
        return f"written elsewhere: {new}"
    if ending.code == 0:
        # A clip that is left out or not asked for; one without frames, as the published data have some.
        one_of_many = (path.name, mutation.kind) in (("features.npy", "not finite"), ("000001.npy", "an empty array"))
        done_without = path.name == "known_texts.npz" and path.name in ending.said  # which only tells of unknown prompts
        of_any_width = (path.name, mutation.kind) == ("all-mpnet-base-v2.npy", "a column more")
        if mutation.refused and not (one_of_many or done_without or of_any_width):
            return f"taken with exit code 0: {ending.said[-300:]}"
        return _not_finite(work / "out")
    if ending.code != 2 and not any(name in ending.said for name in _names(path)):
        return f"the file is not named: {ending.said[-300:]}"
    if ending.code == 1 and len(ending.errors) > 1:
        return f"more than one error line: {ending.errors}"
    return ""


def _names(path: Path) -> tuple[str, ...]:
    """Words by which an error names a file: a manifest also by the files it says too little of, a split by what it is."""
    more = {"manifest.json": ("is there already", "did not write"), "test.txt": ("split",), "train.txt": ("split",),
            "stats.npz": ("config.json",), "config.json": ("text encoder",), "training_state.pt": ("not saved",),
            "settings.json": ("holds a report of metrics",),
            "all-mpnet-base-v2_index.json": ("text encoder mpnet",), "Mean.npy": ("Mean and std", "mean and std"),
            }  # fmt: skip
    folder = path.parent.parent if path.parent.name == "corpus" else path.parent  # of a dataset or gallery, which is named whole
    whole = (f"in/{folder.name}",) if folder.name in ("gallery", "dataset") else ()
    return path.name, path.stem, *more.get(path.name, ()), *whole


def _not_finite(out: Path) -> str:
    for path in out.rglob("*.np[yz]"):
        try:
            loaded = np.load(path, allow_pickle=False)
        except ValueError:  # the published results file, a pickle; its npz lies beside it
            continue
        for array in [loaded] if isinstance(loaded, np.ndarray) else loaded.values():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return f"{path.name} holds numbers that are not finite, with exit code 0"
    return ""


def table(cases: Iterable[Case]) -> str:
    """Lines of class, cases, refused, taken, faults; and the faults one by one."""
    cases = list(cases)
    rows = []
    for kind in sorted({case.kind for case in cases}):
        of = [case for case in cases if case.kind == kind]
        codes = Counter("taken" if case.ending.code == 0 else "refused" for case in of)
        rows.append(f"{kind:42} {len(of):5} {codes['refused']:8} {codes['taken']:6} {sum(bool(case.fault) for case in of):7}")
    faults = [case for case in cases if case.fault]
    head = f"{'class':42} {'cases':>5} {'refused':>8} {'taken':>6} {'faults':>7}"
    taken = sum(case.ending.code == 0 for case in cases)
    last = f"{'all':42} {len(cases):5} {len(cases) - taken:8} {taken:6} {len(faults):7}"
    told = [f"{case.scenario}, {case.target}, {case.kind}: {case.fault}" for case in faults]
    return "\n".join([head, *rows, last, "", *told])
