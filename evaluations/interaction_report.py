"""The report of what two people do, beside published and commonly measured values, and what each metric tells apart."""

import math
from collections.abc import Sequence
from dataclasses import asdict

from data_loaders.physics import MEASURES, physics_table
from evaluations import interaction_measures
from evaluations.metrics import TOP_K, Interval
from evaluations.metrics_report import HEADINGS, Measured, published_rows, times
from evaluations.protocol import GENERATED, GIVEN, METRICS, REAL, Replication
from evaluations.report import Report
from protos.tables import table

MEASURED = "{}, as users of the released files measure it"  # key of published_rows.json
USUAL = 0.02  # from which the real row of a released judge and those of others are not the same
BESIDE = ("Rows 'published' have only the cells that public text confirms; rows 'measured' are what users of the released files "
          "got (issues are named): these are what a run here should come to.")  # fmt: skip
TRUTH, CHANCE = "ground truth", "chance"


def interaction_report(found: Measured, replications: Sequence[Replication] = ()) -> Report:
    """The report of an evaluation, with a line in motions.csv per judged motion of the replications."""
    whole = "all test segments" if found.motions == found.pool else f"{found.motions} motions"
    notes = [
        f"Protocol {found.protocol}: {found.whose}. {times(found.replications)}, seed {found.seed}. Judge: {found.evaluator}. "
        f"Pools of {found.pool} ({whole}).",
        *(f"**{warning}**" for warning in unusual_truth(found)),
        *([BESIDE] if found.published else []),
        "## What the judge can tell", *judge_notes(found),
        "## Told apart from real motion", told_apart_table(found, REAL),
        *(each for row in (GENERATED, GIVEN) if row in found.rows
          for each in (f"## Told apart from {row} motion", told_apart_table(found, row))),
        "higher, lower: where a row lies beside it; no: the 95 % intervals overlap, so no ranking is drawn from that metric. "
        f"Those of R@k are at least what a share of {found.motions} motions leaves open: all replications draw from them.",
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
    every = {REAL: judged.pop(REAL), **beside, **judged, f"{CHANCE}, in pools of {found.pool}": by_chance(found), **others}
    names = [name for name in METRICS if any(name in row for row in every.values())]
    return ["", *(HEADINGS[name] for name in names)], [[label, *map(row.get, names)] for label, row in every.items()]


def by_chance(found: Measured) -> dict[str, Interval]:
    """R-precision of who draws blindly."""
    return {f"top{k}": Interval(min(k / found.pool, 1.0), 0.0) for k in TOP_K}


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


def told_apart(found: Measured, beside: str = REAL) -> dict[str, dict[str, str]]:
    """{row: {metric: where it lies beside the row `beside`: higher, lower, or no, not apart}} of all other rows and chance. Empty
    for one replication, of which no interval is known."""
    if found.replications < 2:
        return {}
    rows = {row: {name: of_so_many(value, found.motions) if name.startswith("top") else value for name, value in figures.items()}
            for row, figures in found.rows.items()} | {CHANCE: by_chance(found)}  # fmt: skip

    def place(own: Interval, other: Interval) -> str:
        return "no" if not apart(own, other) else "higher" if own.mean > other.mean else "lower"

    own = rows.pop(beside)
    return {row: {name: place(other[name], own[name]) for name in METRICS if name in other and name in own}
            for row, other in rows.items()}  # fmt: skip


def told_apart_table(found: Measured, beside: str) -> str:
    rows = told_apart(found, beside)
    if not rows:
        return "–: one replication has no interval."
    names = [name for name in METRICS if any(name in told for told in rows.values())]
    return table(["", *(HEADINGS[name].split()[0] for name in names)],
                 [[row, *map(told.get, names)] for row, told in rows.items()])  # fmt: skip


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
