"""Probe results as numbers, tables and files: report.json, report.md, samples.csv."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_origin

import numpy as np

from data_loaders.corpus import Corpus
from evaluations.physics import physics_table
from evaluations.probe_rules import Description
from evaluations.probe_validation import Validity
from evaluations.probes import AnyProbe, ContentProbe, Judged, Probes, Verdict
from evaluations.report import Report, percent, table
from protos.outputs import Outputs


def validity_table(rows: Sequence[Validity]) -> str:
    """Everything a reader needs to trust a probe, or not: shares that pass in %."""
    header = ["probe", "real clips", "pass", "held out", "worst other content", "noise", "smooth noise", "mean pose",
              "shuffled prompts", "style-blind", "verdict"]  # fmt: skip
    body = []
    for row in rows:
        name, worst = row.worst_other
        verdict = "valid" if row.valid else "INVALID: " + "; ".join(row.reasons)
        body.append([
            row.probe, row.own_count, percent(row.own), percent(row.held_out),
            f"{percent(worst)} {name}" if worst else percent(0.0),
            *(percent(row.controls.get(name)) for name in ("noise", "smooth noise", "mean pose", "shuffled prompts")),
            percent(row.style_blind), verdict + (" (rare content)" if row.rare else ""),
        ])  # fmt: skip
    return table(header, body)


def rate_of(verdicts: Sequence[Verdict]) -> float | None:
    return float(np.mean([v.passed for v in verdicts])) if verdicts else None


def summarise(judged: Judged, probes: Probes, validity: Sequence[Validity] = ()) -> dict:
    """Pass rates: overall and by group over valid probes of contents that are not rare, per probe and per wording."""
    worth = {row.probe: row for row in validity}
    by_probe: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in judged.verdicts:
        by_probe[verdict.probe].append(verdict)
    counted = [p for p in probes.all if p.name not in worth or (worth[p.name].valid and not worth[p.name].rare)]

    def pooled(names: set[str]) -> float | None:
        return rate_of([v for name in names for v in by_probe[name]])

    by_name = {}
    for probe in probes.all:
        own = by_probe[probe.name]
        if not own:
            continue
        wordings: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in own:
            wordings[" → ".join(judged.samples[i].prompt for i in verdict.samples)].append(verdict)
        row = worth.get(probe.name)
        by_name[probe.name] = {
            "group": probe.group,
            "rate": rate_of(own),
            "judged": len(own),
            "counted": probe in counted,
            "valid": row.valid if row else None,
            "rare": row.rare if row else None,
            "real_rate": row.own if row else None,
            "style_blind_rate": row.style_blind if row else None,
            "other_prompts_rate": _on_other_prompts(probe, judged, probes),
            "wordings": {prompt: rate_of(part) for prompt, part in wordings.items()},
        }
    rates = [by_name[p.name]["rate"] for p in counted if p.name in by_name]
    hands = {p.name for p in counted if p.group == "hands"}
    return {
        "overall": pooled({p.name for p in counted}),
        "mean_over_probes": float(np.mean(rates)) if rates else None,
        "probes_at_90": f"{sum(rate >= 0.9 for rate in rates)} of {len(rates)}",
        "hands": pooled(hands),
        "left_right_hands": pooled(hands & set(probes.left_right_hands)),
        "locomotion": pooled({p.name for p in counted if p.group == "locomotion"}),
        "actions": pooled({p.name for p in counted if p.group == "actions"}),
        "paired_styles": pooled({p.name for p in counted if p.group == "pairs"}),
        "rare_contents": pooled({p.name for p in probes.all if p.name in worth and worth[p.name].rare}),
        "probes": by_name,
    }


def _on_other_prompts(probe: AnyProbe, judged: Judged, probes: Probes) -> float | None:
    """Pass rate of a content probe on motions made for contents that do not imply it: 0 for a model that listens."""
    if not isinstance(probe, ContentProbe):
        return None
    contents = {other.name: other.content for other in probes.content_probes}
    others = [
        probes.passes(probe, description)
        for sample, description in zip(judged.samples, judged.descriptions)
        if contents.get(sample.probe, probe.content) not in (probe.content, *probe.implied_by)
    ]
    return float(np.mean(others)) if others else None


def distances(found: Sequence[tuple[float, str]], reference: Sequence[tuple[float, str]] | None = None) -> dict:
    """Distribution of distances to the nearest training clip (m), and the share below 1 % of the reference's."""
    values = np.array([distance for distance, _ in found if np.isfinite(distance)])
    if not len(values):
        return {}
    summary = {"clips": len(values), "median": float(np.median(values)), "p5": float(np.percentile(values, 5)),
               "min": float(values.min())}  # fmt: skip
    if known := [distance for distance, _ in reference or () if np.isfinite(distance)]:
        closest = np.percentile(known, 1)
        summary["share_closer_than_real"] = float((values < closest).mean())
    return summary


def report_of(
    facts: dict[str, Any], validity: Sequence[Validity], judged: Judged, nearest: Sequence[tuple[float, str]]
) -> Report:  # fmt: skip
    """Pass rates, physics and distances; in the file also the wordings, and what each probe is worth; a row per motion."""
    summary, physics, probes = facts["summary"], facts["physics"], facts["summary"]["probes"].items()
    keys = ("overall", "mean_over_probes", "locomotion", "hands", "left_right_hands", "actions", "paired_styles", "rare_contents")
    rows = [[key.replace("_", " "), percent(summary[key])] for key in keys if summary[key] is not None]
    notes = [
        "Overall counts valid probes; contents with fewer than 5 training clips are reported apart (rare contents).",
        table(
            ["probe", "pass, %", "judged", "real clips, %", "on other prompts, %", "style-blind, %", "note"],
            [[name, percent(p["rate"]), p["judged"], percent(p["real_rate"]), percent(p["other_prompts_rate"]),
              percent(p["style_blind_rate"]), _note(p)] for name, p in probes],
        ),
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
        appendix += ["## Validity", validity_table(validity)]
    return Report(
        f"Probes: {facts['source']}", {**facts, "validity": [asdict(row) for row in validity]},
        ["share of motions that pass", "%"], [*rows, ["probes at 90 % or more", summary["probes_at_90"]]], notes,
        appendix="\n\n".join(appendix), lists={"samples.csv": _samples(judged, nearest)},
    )  # fmt: skip


def _note(probe: dict) -> str:
    return "rare content" if probe["rare"] else "" if probe["counted"] else "invalid: not counted"


def distance_table(memorisation: dict[str, dict]) -> str:
    rows = [
        [name, d["clips"], f"{100 * d['median']:.1f}", f"{100 * d['p5']:.1f}", f"{100 * d['min']:.1f}",
         percent(d.get("share_closer_than_real"))]
        for name, d in memorisation.items() if d
    ]  # fmt: skip
    header = ["mean joint distance, cm", "clips", "median", "5 % below", "smallest", "closer than 99 % of real test clips, %"]
    return table(header, rows)


def write_validity(outputs: Outputs, corpus: Corpus, num_clips: int, validity: Sequence[Validity]) -> str:
    """validity.md and validity.json; returns the table."""
    text = validity_table(validity)
    title = f"# Validity of the probes on {num_clips} real clips of {corpus.folder.name}"
    outputs.write("validity.md", f"{title}\n\n{text}\n\nMade from dataset {corpus.stamp}.\n")
    outputs.write_json("validity.json", [asdict(row) for row in validity])
    return text


def _samples(judged: Judged, nearest: Sequence[tuple[float, str]]) -> tuple[list[str], list[list[object]]]:
    """Header, and a line per motion: what was asked, whether it passed, the nearest training clip and what was measured."""
    passed = {index: int(verdict.passed) for verdict in judged.verdicts for index in verdict.samples}
    rows = []
    for index, (sample, description) in enumerate(zip(judged.samples, judged.descriptions)):
        row = {**asdict(sample), "passed": passed.get(index, "")}
        if nearest:
            distance, clip = nearest[index]
            row |= {"nearest_m": f"{distance:.4f}" if clip else "", "nearest_clip": clip}
        rows.append(row | _measures(description))
    header = list(rows[0]) if rows else []
    return header, [list(row.values()) for row in rows]


def _measures(description: Description | None) -> dict[str, str]:
    """The figures of a description, pairs as NAME_left and NAME_right; empty texts where a motion has none."""
    told = {}
    for name, kind in Description.__annotations__.items():
        value = getattr(description, name, None)
        if get_origin(kind) is tuple:
            told |= {f"{name}_{side}": value and value[i] for i, side in enumerate(("left", "right"))}
        else:
            told[name] = value
    return {name: "" if value is None else f"{value:.3f}" for name, value in told.items()}
