"""The report of what two people do, beside published and commonly measured values, and what each metric tells apart."""

import math
from collections.abc import Sequence
from dataclasses import asdict

from evaluations import interaction_measures
from evaluations.metrics import TOP_K, Interval
from evaluations.metrics_report import HEADINGS, Measured, published_rows, times
from evaluations.physics import MEASURES, physics_table
from evaluations.protocol import METRICS, REAL, Replication
from evaluations.report import Report, table

MEASURED = "{}, as users of the released files measure it"  # key of published_rows.json
USUAL = 0.02  # from which the real row of a released judge and those of others are not the same
TRUTH = "ground truth"


def interaction_report(found: Measured, replications: Sequence[Replication] = ()) -> Report:
    """The report of an evaluation, with a line in motions.csv per judged motion of the replications."""
    whole = "all test segments" if found.motions == found.pool else f"{found.motions} motions"
    notes = [
        f"Protocol {found.protocol}: {found.whose}. {times(found.replications)}, seed {found.seed}. Judge: {found.evaluator}. "
        f"Pools of {found.pool} ({whole}).",
        *(f"**{warning}**" for warning in unusual_truth(found)),
        "## What the judge can tell", *judge_notes(found),
        "## Told apart from real motion", told_apart_table(found),
        "no: the 95 % intervals overlap, so no ranking is drawn from that metric. Those of R@k are at least what a share of "
        f"{found.motions} motions leaves open; all replications draw from the same ones.",
    ]  # fmt: skip
    if found.physics:
        notes += ["## Bodies, and what lies between them", physics_table(found.physics, measures=PHYSICS)]
    if found.seconds_per_motion is not None:
        notes.append(f"{1000 * found.seconds_per_motion:.0f} ms per motion, {found.parameters / 1e6:.1f} M parameters.")
    lines = [[k, *each[:-1], f"{each.distance:.4f}"] for k, made in enumerate(replications) for each in made.motions]
    columns = ["replication", "row", "clip", "caption", "frames", "seed", "place_in_pool", "distance"]
    return Report(
        f"{found.what} on {found.dataset} ({found.split}, {found.motions} motions of two people)", asdict(found),
        *interaction_table(found), notes, lists={"motions.csv": (columns, lines)},
    )  # fmt: skip


PHYSICS = (*MEASURES, *interaction_measures.MEASURES)


def interaction_table(found: Measured) -> tuple[list[str], list[list[object]]]:
    """Columns and rows: real motion, what others have for it, what is judged and the controls, chance, then published systems."""
    beside, others = {}, {}
    for label, key in (("published", found.published), ("measured", found.published and MEASURED.format(found.published))):
        for system, row in published_rows(key).items():
            (beside if system.startswith(TRUTH) else others)[f"{label}: {system}"] = row
    judged = dict(found.rows)
    chance = {f"top{k}": Interval(min(k / found.pool, 1.0), 0.0) for k in TOP_K}
    every = {REAL: judged.pop(REAL), **beside, **judged, f"chance, in pools of {found.pool}": chance, **others}
    names = [name for name in METRICS if any(name in row for row in every.values())]
    return ["", *(HEADINGS[name] for name in names)], [[label, *map(row.get, names)] for label, row in every.items()]


def judge_notes(found: Measured) -> list[str]:
    """How often the judge finds the text of a real motion of this split, beside chance."""
    if not found.judge:
        return []
    rows = [["judge", *(found.judge[f"top{k}"] for k in TOP_K)], ["chance", *(found.judge[f"chance{k}"] for k in TOP_K)]]
    return [
        f"How often it finds the text of a real motion of this split among the {found.pool} of its pool, where motions that are "
        "said alike count as one another's:",
        table(["", *(f"first {k}" for k in TOP_K)], rows),
        *(["**By these numbers it is not better than chance: its other figures say nothing.**"] if not better_than_chance(found)
          else []),
    ]  # fmt: skip


def better_than_chance(found: Measured) -> bool:
    """Whether the judge finds texts of real motions more often than chance does, in one of the columns."""
    pairs = [(of_so_many(found.judge[f"top{k}"], found.motions), found.judge[f"chance{k}"]) for k in TOP_K]
    return any(apart(own, chance) and own.mean > chance.mean for own, chance in pairs)


def apart(one: Interval, other: Interval) -> bool:
    """Whether two intervals have nothing in common."""
    return abs(one.mean - other.mean) > one.half_width + other.half_width


def of_so_many(share: Interval, count: int) -> Interval:
    """A share with an interval no narrower than that of a share of `count` motions. Agresti & Coull 1998."""
    middle = (share.mean * count + 2) / (count + 4)
    return Interval(share.mean, max(share.half_width, 1.96 * math.sqrt(middle * (1 - middle) / (count + 4))))


def told_apart(found: Measured) -> dict[str, dict[str, str]]:
    """{row: {metric: where the row lies beside real motion: higher, lower, or no, not apart}} of all rows but the real one. Empty
    for one replication, of which no interval is known."""
    if found.replications < 2:
        return {}

    def place(row: str, name: str) -> str:
        own, real = (found.rows[each][name] for each in (row, REAL))
        if name.startswith("top"):
            own, real = of_so_many(own, found.motions), of_so_many(real, found.motions)
        return "no" if not apart(own, real) else "higher" if own.mean > real.mean else "lower"

    names = [name for name in METRICS if name in found.rows[REAL]]
    return {row: {name: place(row, name) for name in names} for row in found.rows if row != REAL}


def told_apart_table(found: Measured) -> str:
    rows = told_apart(found)
    if not rows:
        return "–: one replication has no interval."
    names = list(next(iter(rows.values()), {}))
    return table(["", *(HEADINGS[name].split()[0] for name in names)], [[row, *told.values()] for row, told in rows.items()])


def unusual_truth(found: Measured) -> list[str]:
    """What to warn of: R-precision of the real row that is not where other users of the released judge have it."""
    rows = published_rows(found.published and MEASURED.format(found.published))
    usual = [row for system, row in rows.items() if system.startswith(TRUTH)]
    if not usual or found.split != "test":
        return []
    off = [f"R@{k} {found.rows[REAL][f'top{k}'].mean:.3f}" for k in TOP_K
           if min(abs(row[f"top{k}"].mean - found.rows[REAL][f"top{k}"].mean) for row in usual) > USUAL]  # fmt: skip
    return [f"the real row is not where others have it ({', '.join(off)}): dataset, splits or judge differ from the released "
            "ones, so no row here can be compared with those of others"] if off else []  # fmt: skip
