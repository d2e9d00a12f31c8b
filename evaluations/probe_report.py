"""Probe results as numbers and reports: report.json, report.md, report.csv, samples.csv; validity.json, validity.md."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data_loaders.corpus import Corpus
from data_loaders.physics import physics_table
from evaluations.motion_measures import MEASURES
from evaluations.probe_run import Near, Probed, probe_model, validate_on
from evaluations.probe_validation import RARE, Validity
from evaluations.probes import ACTIVITIES, Probe, probes_for
from evaluations.report import Report, Table, percent
from model.capabilities import OWN
from protos.tables import decimals, table
from sample.generation import load

RATES = {
    "overall": "overall", "overall_without_activities": "overall, without new contents", "mean_over_probes": "mean over probes",
    "locomotion": "locomotion", "hands": "hands", "left_right_hands": "left right hands", "actions": "actions",
    "paired_styles": "paired styles", "activities": "new contents, counted", "rare_contents": "rare contents",
}  # fmt: skip


def pass_rates(model_path: str, dataset: str, repetitions: int, device: str = "auto") -> dict[str, Any]:
    """`summarise` of a checkpoint over the probes that are valid on a dataset, each wording asked so many times."""
    corpus = Corpus.open(dataset)
    probes = probes_for(corpus)
    _, validity = validate_on(corpus, probes)
    return summarise(probe_model(load(model_path, device), probes, probes.probes, repetitions, 0, OWN), validity)


def share(passed: Sequence[bool]) -> float | None:
    """Of trials that passed; None of none."""
    return float(np.mean(passed)) if passed else None


def summarise(probed: Probed, validity: Sequence[Validity] = ()) -> dict[str, Any]:
    """Pass rates: overall and by group over valid probes of contents that are not rare, per probe and per wording."""
    probes, worth = probed.probes, {row.probe: row for row in validity}
    passed: dict[str, list[bool]] = defaultdict(list)
    wordings: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for trial, good in zip(probed.trials, probed.passed):
        passed[trial.probe].append(good)
        wordings[trial.probe][" → ".join(trial.prompts)].append(good)
    counted = {p.name: p.group for p in probes.probes if p.name not in worth or (worth[p.name].valid and not worth[p.name].rare)}
    found = {
        probe.name: {
            "group": probe.group,
            "rate": share(passed[probe.name]),
            "judged": len(passed[probe.name]),
            "counted": probe.name in counted,
            "valid": row.valid if row else None,
            "rare": row.rare if row else None,
            "takes": row.takes if row else None,
            "real_rate": row.own if row else None,
            "real_cuts_rate": row.own_cuts if row else None,
            "style_blind_rate": row.style_blind if row else None,
            "other_prompts_rate": _on_other_prompts(probe, probed),
            "wordings": {prompt: share(each) for prompt, each in wordings[probe.name].items()},
        }
        for probe in probes.probes if passed[probe.name] for row in [worth.get(probe.name)]
    }  # fmt: skip

    def pooled(group: str | None = None, among: Sequence[str] = tuple(counted)) -> float | None:
        return share([good for name in among if group in (None, counted.get(name)) for good in passed[name]])

    rates = [found[name]["rate"] for name in counted if name in found]
    base = [name for name, group in counted.items() if group != ACTIVITIES]
    return {
        "overall": pooled(),
        "overall_without_activities": pooled(None, base) if len(base) < len(counted) else None,
        "mean_over_probes": float(np.mean(rates)) if rates else None,
        "probes_at_90": f"{sum(rate >= 0.9 for rate in rates)} of {len(rates)}",
        "hands": pooled("hands"),
        "left_right_hands": pooled("hands", probes.left_right_hands),
        "locomotion": pooled("locomotion"),
        "actions": pooled("actions"),
        "paired_styles": pooled("pairs"),
        "activities": pooled(ACTIVITIES),
        "rare_contents": pooled(None, [name for name, row in worth.items() if row.rare]),
        "probes": found,
    }


def _on_other_prompts(probe: Probe, probed: Probed) -> float | None:
    """Pass rate of a content probe on motions made for contents that do not imply it: 0 for a model that listens."""
    if probe.paired:
        return None
    others = {p.name for p in probed.probes.content_probes if p.content not in (probe.content, *probe.implied_by)}
    trials = zip(probed.trials, probed.measures)
    return share([probed.probes.passes(probe, *measures) for trial, measures in trials if trial.probe in others])


def probe_report(facts: dict[str, Any], validity: Sequence[Validity], probed: Probed, nearest: Sequence[Near]) -> Report:
    """Pass rates, physics and distances; in the file also the wordings, and what each probe is worth; a row per motion.

    facts: `source`, `command`, `made_from`, `summary`, `physics`, `memorisation` (distances), and whether to list `wordings`.
    nearest: (metres, name) of the training clip that is nearest to each motion, where that is known.
    """
    summary, physics, probes = facts["summary"], facts["physics"], facts["summary"]["probes"].items()
    rows = [[label, percent(summary[key])] for key, label in RATES.items() if summary[key] is not None]
    columns = ["probe", "pass, %", "judged", "real clips, %", "their cuts, %", "on other prompts, %", "style-blind, %",
               "takes (train/val/test)", "note"]  # fmt: skip
    shares = ("real_rate", "real_cuts_rate", "other_prompts_rate", "style_blind_rate")
    notes = [
        f"Overall counts valid probes; contents with fewer than {RARE} training takes are listed, and pooled apart (rare "
        "contents). New contents: what a dataset shows beside those whose probes it builds on. Cuts: the clips that long "
        "recordings were cut into, of which a model learns.",
        table(columns, [
            [name, percent(p["rate"]), p["judged"], *(percent(p[key]) for key in shares), takes_text(p["takes"]),
             f"rare content{'' if p['valid'] else ', invalid'}: not counted" if p["rare"] else
             "" if p["counted"] else "invalid: not counted"]
            for name, p in probes
        ]),
    ]  # fmt: skip
    if physics:
        pair = ("generated test captions", "the same real clips")
        notes += ["## Physics", physics_table(physics, pair if set(pair) <= set(physics) else None)]
    if facts["memorisation"]:
        notes += ["## Distance to the nearest training clip", distance_table(facts["memorisation"])]
    appendix = []
    if facts["wordings"]:
        wordings = [[name, prompt, percent(rate)] for name, p in probes for prompt, rate in p["wordings"].items()]
        appendix += ["## Wordings", table(["probe", "wording", "pass, %"], wordings)]
    if validity:
        appendix += ["## Validity", table(*validity_table(validity))]
    return Report(
        f"Probes: {facts['source']}", {**facts, "validity": [asdict(row) for row in validity]},
        ["share of motions that pass", "%"], [*rows, ["probes at 90 % or more", summary["probes_at_90"]]], notes,
        appendix="\n\n".join(appendix), lists={"samples.csv": samples_table(probed, nearest)},
    )  # fmt: skip


def validity_report(validity: Sequence[Validity], corpus: Corpus, num_clips: int, command: str) -> Report:
    """What each probe is worth on the real clips of a corpus."""
    facts = {"command": command, "made_from": {"dataset": corpus.stamp}, "probes": [asdict(row) for row in validity]}
    return Report(f"Validity of the probes on {num_clips} real clips of {corpus.folder.name}", facts, *validity_table(validity))


def validity_table(validity: Sequence[Validity]) -> Table:
    """Everything a reader needs to trust a probe, or not: shares that pass in %."""
    columns = ["probe", "takes (train/val/test)", "real clips", "pass", "their cuts", "held out", "worst other content", "noise",
               "smooth noise", "mean pose", "shuffled prompts", "style-blind", "verdict"]  # fmt: skip
    rows = []
    for row in validity:
        name, worst = row.worst_other
        rows.append([
            row.probe, takes_text(row.takes), row.own_count, percent(row.own), percent(row.own_cuts), percent(row.held_out),
            f"{percent(worst)} {name}".rstrip(), *(percent(row.controls.get(control)) for control in columns[7:11]),
            percent(row.style_blind),
            ("valid" if row.valid else "INVALID: " + "; ".join(row.reasons)) + (" (rare content)" if row.rare else ""),
        ])  # fmt: skip
    return columns, rows


def takes_text(takes: Sequence[int] | None) -> str | None:
    """'10/0/3': recordings in train, val and test."""
    return None if takes is None else "/".join(map(str, takes))


def distance_table(memorisation: dict[str, dict[str, float]]) -> str:
    """Distances in cm to the nearest training clip, a row for each set of motions."""
    columns = ["mean joint distance, cm", "clips", "median", "5 % below", "smallest", "closer than 99 % of real test clips, %"]
    return table(columns, [
        [name, near["clips"], *(decimals(100 * near[key], 1) for key in ("median", "p5", "min")),
         percent(near.get("share_closer_than_real"))]
        for name, near in memorisation.items() if near
    ])  # fmt: skip


def samples_table(probed: Probed, nearest: Sequence[Near]) -> Table:
    """A row per motion: what was asked, whether it passed, the nearest training clip and what was measured."""
    columns = ["probe", "wording", "repetition", "role", "prompt", "frames", "passed"]
    columns += (["nearest_m", "nearest_clip"] if nearest else []) + list(MEASURES)
    rows, near = [], iter(nearest)
    for trial, passed, told in zip(probed.trials, probed.passed, probed.measures):
        roles = ("slow", "fast") if len(told) == 2 else ("",)
        for role, prompt, frames, measures in zip(roles, trial.prompts, trial.frames, told):
            row = [trial.probe, trial.wording, trial.repetition, role, prompt, frames, int(passed)]
            if nearest:
                distance, clip = next(near)
                row += [decimals(distance, 4) if clip else None, clip]
            rows.append(row + [decimals(measures[name], 3) if measures else None for name in MEASURES])
    return columns, rows
