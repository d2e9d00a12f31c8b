"""Compares what a handler computed with what a case expects, by the case's own rule.

A rule is {atol, rtol} or {exact}; `overrides` replaces it for columns of the last axis; `valid` limits what counts;
`select` names the part of the computed output that was stored; `up_to_sign`, `equivalence`, `period` name symmetries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Difference:
    """The entry that uses most of its tolerance; `problem` says what cannot be compared at all."""

    largest: float = 0.0
    allowed: float = 0.0
    exact: bool = False
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem and self.largest <= self.allowed

    @property
    def share(self) -> float:
        """Part of the tolerance used: above 1 fails."""
        if self.problem:
            return np.inf
        return self.largest / self.allowed if self.allowed else (np.inf if self.largest else 0.0)

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        if self.exact:
            return "exact" if self.ok else f"{self.largest:g} entries differ, none may"
        return f"{self.largest:.2e}, allowed {self.allowed:.2e}"


def compare(got: Any, expected: Any, rule: dict, case: Any, load: Callable[[str], Any]) -> Difference:
    """Largest difference of one output. `load` resolves a reference that the rule names."""
    got, expected = plain(got), plain(expected)
    if "header" in rule:
        return _compare_bvh(got, expected, rule)
    valid = rule.get("valid")
    if isinstance(valid, dict) and not {"rule", "where", "exclude_slice", "exclude_index"} & set(valid):
        got, expected = _derived(got, expected, valid, case, load)
        valid = None
    if "select" in rule:
        got = _select(np.asarray(got), rule["select"])
    if _is_array(expected):
        return _compare_arrays(got, np.asarray(expected), rule, valid, case, load)
    return _compare_values(got, expected, rule, valid)


def plain(value: Any) -> Any:
    """Tensors and numpy scalars become arrays, tuples lists, so that containers compare by content."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) in ("torch.bfloat16", "torch.float16") else value).numpy()
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _is_array(value: Any) -> bool:
    if isinstance(value, (np.ndarray, float, int)) and not isinstance(value, bool):
        return True
    if not isinstance(value, list) or not value:
        return False
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except ValueError:  # ragged
        return False


def _compare_arrays(got: Any, expected: np.ndarray, rule: dict, valid: Any, case: Any, load: Callable) -> Difference:
    try:
        got = np.asarray(got)
    except ValueError:
        return Difference(problem="rows of unequal length")
    if got.shape != expected.shape:
        return Difference(problem=f"shape {got.shape}, expected {expected.shape}")
    if expected.dtype.kind not in "biufc":
        differing = int((got != expected)[_valid_mask(valid, expected, case, load)].sum())
        return Difference(largest=differing, exact=True)
    if got.dtype.kind not in "biufc":
        return Difference(problem=f"values of type {got.dtype}, expected numbers")
    counts = _valid_mask(valid, expected, case, load)
    distance = _distance(got, expected, rule)
    worst = Difference(exact=bool(rule.get("exact")))
    for region, region_rule in _regions(expected, rule):
        chosen = counts & region
        if not chosen.any():
            continue
        found = _worst(distance[chosen], expected[chosen], region_rule)
        if (found.share, found.largest) >= (worst.share, worst.largest):
            worst = found
    return worst


def _worst(distance: np.ndarray, expected: np.ndarray, rule: dict) -> Difference:
    if rule.get("exact"):
        return Difference(largest=int(np.count_nonzero(distance)), exact=True)
    with np.errstate(invalid="ignore"):
        allowed = rule.get("atol", 0.0) + rule.get("rtol", 0.0) * np.where(np.isfinite(expected), np.abs(expected), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(distance == 0, 0.0, distance / allowed)
    place = int(np.argmax(share))
    return Difference(largest=float(distance[place]), allowed=float(allowed[place]))


def _distance(got: np.ndarray, expected: np.ndarray, rule: dict) -> np.ndarray:
    """|got − expected| in float64, 0 where both are the same non-finite value, infinite where only one is."""
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = got - expected
        if rule.get("period"):
            period = rule["period"]
            difference = difference - period * np.round(difference / period)
        distance = np.abs(difference)
        if rule.get("up_to_sign") or rule.get("equivalence") == "quaternion_sign":
            flipped = np.abs(got + expected)
            distance = np.where(flipped.max(-1, keepdims=True) < distance.max(-1, keepdims=True), flipped, distance)
    distance = np.where(np.isnan(distance), np.inf, distance)
    return np.where((got == expected) | (np.isnan(got) & np.isnan(expected)), 0.0, distance)


def _regions(expected: np.ndarray, rule: dict) -> list[tuple[np.ndarray, dict]]:
    """Which entries follow which rule: overridden columns of the last axis, then the rest."""
    rest = np.ones(expected.shape, dtype=bool)
    regions = []
    for override in rule.get("overrides", ()):
        region = np.zeros(expected.shape, dtype=bool)
        region[..., slice(*override["columns"])] = True
        rest &= ~region
        regions.append((region, override))
    return [*regions, (rest, rule)]


def _valid_mask(valid: Any, expected: np.ndarray, case: Any, load: Callable) -> np.ndarray:
    """Boolean array of expected's shape, True where the entry counts."""
    if valid is None:
        return np.ones(expected.shape, dtype=bool)
    if isinstance(valid, str):
        mask = case.inputs[valid.removeprefix("inputs.")] if valid.startswith("inputs.") else load(valid)
        return _spread(np.asarray(mask, dtype=bool), expected.shape)
    if valid.get("rule") == "position_below_length":
        lengths = np.asarray(case.inputs[valid["lengths"]])
        position = np.arange(expected.shape[valid["axis"]])
        mask = position[None, :] < lengths[:, None]
        shape = np.ones(expected.ndim, dtype=int)
        shape[valid["batch_axis"]], shape[valid["axis"]] = mask.shape
        mask = mask if valid["batch_axis"] < valid["axis"] else mask.T
        return np.broadcast_to(mask.reshape(shape), expected.shape)
    if valid.get("rule") == "mask_is_one":
        return _spread(np.asarray(case.inputs[valid["mask"]]) == 1, expected.shape)
    if valid.get("where") == "abs(reference) > value":
        return np.broadcast_to(np.abs(load(valid["reference"])) > valid["value"], expected.shape)
    if "where" in valid:
        mask = {**case.expected, **case.inputs}[valid["where"]]
        return _spread(np.asarray(mask) == valid["equals"], expected.shape)
    mask = np.ones(expected.shape, dtype=bool)
    if "exclude_slice" in valid:
        mask[slice(*valid["exclude_slice"])] = False
        return mask
    if "exclude_index" in valid:
        for index in valid["exclude_index"]:
            mask[tuple(index)] = False
        return mask
    raise ValueError(f"the comparison rule {valid!r} is not known")


def _spread(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Broadcast by numpy's rule, or along the leading axes where the mask has fewer: (B, L) over (B, L, C)."""
    if mask.ndim < len(shape) and mask.shape == shape[: mask.ndim]:
        mask = mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim))
    return np.broadcast_to(mask, shape)


def _select(got: np.ndarray, select: dict) -> np.ndarray:
    chosen = select.get("indices", slice(select.get("start"), select.get("stop")))
    return got[(slice(None),) * select["axis"] + (chosen,)]


def _derived(got: Any, expected: Any, valid: dict, case: Any, load: Callable) -> tuple[Any, Any]:
    """Rules that compare something made of the two values: a parsed file, some lines, rows matched by their text."""
    if valid.get("parse") == "yaml mapping":
        import yaml

        read = [yaml.safe_load(text) if isinstance(text, str) else text for text in (got, expected)]
        return [list(map(list, r.items())) for r in read] if valid.get("order") == "significant" else read
    if "lines" in valid:
        return got, [expected[line] for line in valid["lines"]]
    if "word" in valid:
        last = [text if isinstance(text, str) else "\n".join(text) for text in (got, expected)]
        return [text.split()[valid["word"]] for text in last]
    if "match_rows_by" in valid:
        # the handler returns {"index": text -> row, "rows": array}; the case names the stored file's own index
        stored = load(valid["stored_index"]) if "stored_index" in valid else plain(case.expected["index"])
        if "slices" in got:  # a text has several rows
            ours, theirs = np.asarray(got["slices"]), np.asarray(case.expected["slices"])
            pieces = [(ours[got["index"][text]], theirs[row]) for text, row in stored.items()]
            return tuple(np.concatenate([array[slice(*pair[side])] for pair in pieces])
                         for side, array in enumerate((np.asarray(got["rows"]), np.asarray(expected))))
        rows = np.asarray(got["rows"])[[got["index"][text] for text in stored]]
        expected = np.asarray(expected)[list(stored.values())]
        if valid.get("compare") == "end - begin":
            return rows[:, 1] - rows[:, 0], expected[:, 1] - expected[:, 0]
        return rows, expected
    if valid.get("compare") == "set of keys":
        return sorted(got), sorted(expected)
    raise ValueError(f"the comparison rule {valid!r} is not known")


def _compare_values(got: Any, expected: Any, rule: dict, valid: Any = None) -> Difference:
    """Containers entry by entry; numbers by tolerance unless exact; everything else must be equal."""
    excluded = {tuple(index) for index in (valid or {}).get("exclude_index", ())} if isinstance(valid, dict) else set()
    worst = Difference(exact=bool(rule.get("exact")))

    def visit(a: Any, b: Any, place: tuple) -> None:
        nonlocal worst
        if place in excluded or worst.problem:
            return
        if isinstance(b, dict) and isinstance(a, dict):
            strict = rule.get("exact") or rule.get("keys") == "same_set"
            missing, extra = sorted(set(b) - set(a), key=str), sorted(set(a) - set(b), key=str)
            if missing or (strict and extra):
                worst = Difference(problem=f"missing {missing[:3]}, not expected {extra[:3] if strict else []}")
            for key in b if not worst.problem else ():
                visit(a[key], b[key], (*place, key))
        elif isinstance(b, list) and isinstance(a, (list, np.ndarray)):
            if len(a) != len(b):
                worst = Difference(problem=f"{_at(place)}{len(a)} entries, expected {len(b)}")
            for index in range(len(b)) if not worst.problem else ():
                visit(a[index], b[index], (*place, index))
        elif _is_array(b):
            found = _compare_arrays(a, np.asarray(b), {**rule, "overrides": ()}, None, None, None)
            if found.share > worst.share or (found.share == worst.share and found.largest > worst.largest):
                worst = Difference(problem=f"{_at(place)}{found.problem}") if found.problem else found
            if not found.ok and not found.problem and found.exact:
                worst = Difference(problem=f"{_at(place)}{_short(a)}, expected {_short(b)}")
        elif a != b or isinstance(a, bool) != isinstance(b, bool):
            worst = Difference(problem=f"{_at(place)}{_short(a)}, expected {_short(b)}")

    visit(got, expected, ())
    return worst


def _compare_bvh(got: str, expected: str, rule: dict) -> Difference:
    """Header text equal; root positions and angles of the frames by their own tolerances."""
    (got_head, got_rows), (head, rows) = _read_bvh(got), _read_bvh(expected)
    if got_head != head:
        first = next((pair for pair in zip(got_head, head) if pair[0] != pair[1]), ("shorter header", "longer"))
        return Difference(problem=f"header {_short(first[0])}, expected {_short(first[1])}")
    if got_rows.shape != rows.shape:
        return Difference(problem=f"frames {got_rows.shape}, expected {rows.shape}")
    channels = [word for line in head if line.split()[:1] == ["CHANNELS"] for word in line.split()[2:]]
    position = np.array([channel.endswith("position") for channel in channels])
    angles = {**rule["angles"], "period": rule["angles"].get("modulo")}
    parts = [_worst(_distance(got_rows[:, columns], rows[:, columns], part).ravel(), rows[:, columns].ravel(), part)
             for columns, part in ((position, rule["positions"]), (~position, angles)) if columns.any()]
    return max(parts, key=lambda part: part.share)


def _read_bvh(text: str) -> tuple[list[str], np.ndarray]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    start = next(i for i, line in enumerate(lines) if line.startswith("Frame Time")) + 1
    return lines[:start], np.array([[float(word) for word in line.split()] for line in lines[start:]])


def _at(place: tuple) -> str:
    return "/".join(map(str, place)) + ": " if place else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
