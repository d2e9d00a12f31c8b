"""The report of reactions beside recorded ones, with what is published of others, measured elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from data_loaders.physics import MEASURES, physics_table
from evaluations import interaction_measures
from evaluations.metrics import Interval
from evaluations.metrics_report import HEADINGS, published_rows
from evaluations.reaction_set import MEAN_POSE, MIRROR, NEAREST, SHUFFLED
from evaluations.reactions import ERRORS, JUDGED, Reactions
from evaluations.report import Report, percent
from protos.tables import table

PUBLISHED = {"InterHuman": "interhuman, reactions", "Inter-X": "interx, reactions"}  # keys of published_rows.json
COLUMNS = {
    "mpjpe": "MPJPE, mm ↓", "best_mpjpe": "best of {} ↓", "mpjve": "MPJVE, mm/frame ↓", "contacts": "contact F1 ↑",
    **{name: HEADINGS[name] for name in JUDGED},
}  # fmt: skip
PUBLISHED_COLUMNS = {"fid": "FID ↓", "diversity": "Diversity →", "multimodality": "MModality ↑", "mpjpe": "MPJPE ↓",
                     "mpjve": "MPJVE ↓", "contacts": "M-Cons ↑"}  # fmt: skip
MANY, FEW = 100, "So few motions make a poor estimate of FID."
WITHOUT_MODEL = (
    f"{SHUFFLED}: as it stood to its own actor, of as many others as there are samples, or of all. {MEAN_POSE}: of all training "
    f"people, in every frame as far ahead of the actor as training people are apart. {NEAREST}: the reaction to the training "
    f"action whose joints are nearest, moved along with the actor. {MIRROR}: in a mirror half as far ahead, which does not move."
)
ELSEWHERE = ("Measured elsewhere, on other data and by another judge than the tables above, so that no row can be compared with "
             "them; units of MPJPE and MPJVE are not stated there, and M-Cons is not defined.")  # fmt: skip


def reaction_report(found: Reactions, lines: Sequence[Sequence[object]] = ()) -> Report:
    """The report of an evaluation; motions.csv has a line per reaction."""
    sets = 2 * found.segments
    notes = [
        f"{found.segments} test segments, in each of which either person acts in turn; {found.samples} reactions of each, seed "
        f"{found.seed}. All is in the world of the one who acts, who starts at the origin and faces +Z. MPJPE, MPJVE and F1 of "
        f"contacts (joints nearer than 10 cm): mean ± 95 % interval over the segments (Student's t), samples and orders of a "
        f"segment averaged first; the least MPJPE of {found.samples} is that of the best sample. Where no "
        f"joints touch in the recorded one, which holds of {found.untouched} of the {sets} recorded ones, F1 is 1 or 0.",
        *([judged_by(found, sets)] if found.evaluator else []),
        *([WITHOUT_MODEL] if NEAREST in found.rows else []),
        f"The model {'is told' if found.text else 'is not told'} what the two do.",
    ]  # fmt: skip
    if found.beside:
        notes += ["## Beside the generated reactions, segment by segment",
                  table(["", "MPJPE over that of the generated, mm"], [[row, value] for row, value in found.beside.items()]),
                  f"Over 0 with an interval that leaves 0 out: the generated reactions are nearer; the mean of {found.samples} "
                  "samples counts, not the best."]  # fmt: skip
    for order, rows in found.orders.items():
        notes += [f"## {order[0].upper()}{order[1:]}", table(*rows_of(rows, found.samples))]
    if found.alignment is not None:
        share, chance = (percent(found.alignment[name]) for name in ("share", "chance"))
        notes += ["## Alignment of latents",
                  f"{share} % of the recorded reactions have a latent that is nearest to that of their own actor, among the "
                  f"{found.segments} of an order (chance: {chance} %)."]  # fmt: skip
    if found.physics:
        notes += ["## The one who reacts, and what lies between the two",
                  physics_table(found.physics, measures=(*MEASURES, *interaction_measures.MEASURES))]  # fmt: skip
    notes += [each for data, key in PUBLISHED.items() for each in (f"## Published, on {data}", published_table(key))]
    notes.append(ELSEWHERE)
    if found.seconds_per_motion is not None:
        notes.append(f"{1000 * found.seconds_per_motion:.0f} ms per reaction, {found.parameters / 1e6:.1f} M parameters.")
    columns = ["row", "segment", "order", "sample", "frames", "mpjpe_mm", "mpjve_mm_per_frame", "contact_f1"]
    return Report(
        f"Reactions of {found.what} on {found.dataset} ({found.split}, {found.segments} segments)", asdict(found),
        *rows_of(found.rows, found.samples), notes, lists={"motions.csv": (columns, lines)},
    )  # fmt: skip


def judged_by(found: Reactions, sets: int) -> str:
    """What the columns of the judge are; `sets` motions make a set."""
    return (f"FID, Diversity, MModality: {found.evaluator} on the true actor with the reaction, scaled as protocol "
            f"{found.protocol} has it. Of FID and Diversity mean ± 95 % interval over the samples, each a set of {sets} motions; "
            "FID compares with the recorded ones, so that the ground truth has 0. MModality: all pairs of samples of a segment."
            + (f" **{FEW}**" if sets < MANY else ""))  # fmt: skip


def rows_of(rows: Mapping[str, Mapping[str, Interval]], samples: int) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of a table."""
    names = [name for name in (*ERRORS, *JUDGED) if any(name in row for row in rows.values())]
    return ["", *(COLUMNS[name].format(samples) for name in names)], [[row, *map(own.get, names)] for row, own in rows.items()]


def published_table(key: str) -> str:
    """What others have measured."""
    rows = published_rows(key)
    return table(["", *PUBLISHED_COLUMNS.values()], [[system, *map(own.get, PUBLISHED_COLUMNS)] for system, own in rows.items()])
