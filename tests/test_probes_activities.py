"""Probes of Bandai-Namco and CMU together: what people do beside walking and raising hands, and probes that build on others."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_loaders.corpus import Corpus
from data_loaders.merging import merge
from data_loaders.preparation import prepare
from data_loaders.read_recordings import PreparationSettings
from data_loaders.text import mirror_text
from evaluations import motion_measures as measures
from evaluations.probe_report import RATES, probe_report, summarise
from evaluations.probe_run import probe_real, validate_on
from evaluations.probe_validation import RARE, real_clips
from evaluations.probes import ACTIVITIES, Probe, plain_words, probes_for, probes_of, read_probes
from protos.reading import FileError
from tests import acted_motions as acted
from tests.acted_motions import FPS, held, mirrored, running, swinging_a_leg, tipped, walking, waving
from tests.shared import shared
from tests.synthetic import random_corpus

BASE, PROBES = probes_of("bandai_namco"), probes_of("bandai_cmu")
OWN = tuple(probe for probe in PROBES.probes if probe.group == ACTIVITIES)
RARELY_SHOWN = {"punch", "get up", "cartwheel", "run and stop", "duck while running"}
ACTED = {
    "jump": acted.jumping, "leap": acted.leaping, "kick": lambda: swinging_a_leg(0, 1.6, 5),
    "kick a ball": lambda: swinging_a_leg(-0.9, 0.8, 4), "get up": acted.getting_up, "climb": acted.climbing,
    "dribble": acted.dribbling, "run and stop": acted.running_then_standing, "duck while running": acted.ducking_in_a_run,
    "acrobatics": acted.cartwheeling, "run round a bend": lambda: acted.round_the_corner(running(num_frames=40), 60),
}  # fmt: skip


def passing(joints: np.ndarray) -> set[str]:
    """Names of the probes of one side that a motion passes."""
    told = measures.describe(joints, FPS)
    return {probe.name for probe in PROBES.content_probes if PROBES.passes(probe, told)}


# ---------------------------------------------------------------------------------------- measures and rules on made motions


@pytest.mark.parametrize(("name", "beside"), [
    ("jump", set()), ("leap", {"jump", "run"}), ("kick", set()), ("kick a ball", set()), ("get up", set()), ("climb", set()),
    ("dribble", {"walk forward"}), ("run and stop", {"run"}), ("duck while running", {"run"}), ("acrobatics", set()),
    ("run round a bend", {"turn left"}),
])  # fmt: skip
def test_activities_are_told_apart(name, beside):
    assert passing(ACTED[name]()) == {name} | beside


def test_walks_waves_and_bows_are_none_of_the_activities():
    for motion in (held(60), walking(), walking()[::-1], running(), waving(), acted.bowing()):
        assert not {probe.name for probe in OWN} & passing(motion)


@pytest.mark.parametrize("name", ACTED)
def test_place_heading_and_side_do_not_matter_to_an_activity(name):
    motion = ACTED[name]()
    turned = motion @ np.array([[0.6, 0, 0.8], [0, 1, 0], [-0.8, 0, 0.6]]) + np.array([3.0, 0.0, -7.0])
    assert passing(turned) == passing(motion)
    assert passing(mirrored(motion)) == {mirror_text(each) for each in passing(motion)}


def test_a_body_rises_from_lying_and_not_the_other_way_round():
    found = measures.describe(acted.getting_up(), FPS)
    assert found["head_start"] < 0.3 and found["head_end"] > 1.3
    assert passing(acted.getting_up()[::-1]) == set()


def test_a_jump_is_as_high_as_the_body_flies_and_hanging_is_no_jump():
    assert measures.describe(acted.jumping(0.4), FPS)["jump"] == pytest.approx(0.4, abs=0.06)
    assert passing(acted.jumping(0.1)) == set()
    assert measures.describe(acted.climbing(), FPS)["jump"] == 0.0  # two seconds off the floor


def test_a_kick_is_quick_and_high():
    assert measures.describe(swinging_a_leg(0, 1.6, 5), FPS)["kick"] == pytest.approx(0.83, abs=0.05)  # as high as the hip
    assert passing(swinging_a_leg(0, 1.6, 20)) == set()
    assert passing(swinging_a_leg(0, 0.5, 5)) == set()


def test_a_hand_that_swings_to_and_fro_dribbles_no_ball():
    assert measures.describe(acted.dribbling(), FPS)["bounces"] == pytest.approx(2 * 1.2, abs=0.3)
    assert passing(acted.dribbling(to_and_fro=1.2)) == {"walk forward"}


def test_the_head_is_under_the_pelvis_in_a_cartwheel():
    assert measures.describe(acted.cartwheeling(), FPS)["upside_down"] == pytest.approx(0.55, abs=0.02)
    assert measures.describe(held(60), FPS)["upside_down"] == pytest.approx(-0.55, abs=0.02)


def test_turning_steps_and_travel_count_what_they_say():
    spinning = tipped(held(60), np.arange(60) * 90 / FPS, (0, 2))  # a quarter of a turn a second
    assert measures.describe(spinning, FPS)["turning"] == pytest.approx(90, abs=5)
    assert measures.describe(walking(), FPS)["net_travel"] == pytest.approx(1.0, abs=0.01)
    there_and_back = np.concatenate([walk := walking(), walk[::-1]])
    assert measures.describe(there_and_back, FPS)["net_travel"] < 0.02
    assert measures.describe(held(60), FPS)["steps"] == 0.0


def test_somebody_who_stands_on_a_step_does_not_fly():
    stepping_up = held(100)
    stepping_up[..., 1] += np.interp(np.arange(100), [40, 46], [0, 0.3])[:, None]
    assert measures.describe(stepping_up, FPS)["flight"] < 0.1
    assert measures.describe(acted.airborne(held(60), 20, 14, 0.6), FPS)["flight"] == pytest.approx(14 / 60, abs=0.05)


def test_somebody_who_lies_raises_no_hands():
    lying = tipped(waving(), np.full(120, 90.0), (2, 1))
    assert passing(waving()) == {"wave left hand"} and passing(lying) == set()


# ---------------------------------------------------------------------------------------- probes that build on others


def test_probes_build_on_those_of_another_dataset():
    for probe in BASE.probes:
        here = PROBES[probe.name]
        assert (here.prompts, here.frames, here.sides) == (probe.prompts, probe.frames, probe.sides)
        assert set(probe.implied_by) <= set(here.implied_by)
    assert PROBES.fps == BASE.fps and BASE.relabelled.items() < PROBES.relabelled.items()
    assert "dribble" in PROBES["walk forward"].implied_by and "dribble" not in BASE["walk forward"].implied_by
    assert (BASE["kick"].group, PROBES["kick"].group) == ("actions", ACTIVITIES)
    assert ACTIVITIES not in {probe.group for probe in BASE.probes}
    assert len({probe.content for probe in PROBES.content_probes}) == len(PROBES.content_probes)


def test_slips_in_a_file_that_builds_on_another_are_named(tmp_path):
    file = tmp_path / "probes.toml"

    def refused(text: str) -> str:
        file.write_text(text)
        with pytest.raises(FileError) as error:
            read_probes(file)
        return str(error.value)

    assert "no probes for dataset juggling, only for bandai_cmu, bandai_namco" in refused('base = "juggling"')
    assert "amended probe 'wlak', expected one of walk forward" in refused('base = "bandai_namco"\n[amended.wlak]')
    assert "fps is missing" in refused('[rules."stands"]')
    file.write_text('base = "bandai_namco"\n[rules."bows"]\nwithin = { bow = [0, 1] }')
    assert read_probes(file).rules["bows"].within == {"bow": (0.0, 1.0)}


def test_a_dataset_with_further_contents_has_the_probes_that_ask_for_them(small_dataset):
    corpus = Corpus.open(small_dataset)
    assert probes_for(corpus) == BASE
    corpus.labels = [{"content": content} for content in ("walk", "jump", "dribble")]
    assert probes_for(corpus) == PROBES
    corpus.folder = Path("elsewhere/bandai_cmu")
    corpus.labels = [{"content": "juggling"}]
    assert probes_for(corpus) == PROBES


@pytest.mark.parametrize("probe", PROBES.probes, ids=lambda probe: probe.name)
def test_every_probe_has_four_wordings_and_lengths_that_clips_have(probe: Probe):
    assert len({plain_words(" / ".join(wording)) for wording in probe.wordings}) >= 4
    assert all(20 <= frames <= 196 for lengths in probe.lengths for frames in lengths)


def texts_in(content: Any) -> Iterator[str]:
    """Every text of a JSON file."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, (dict, list)):
        for each in content.values() if isinstance(content, dict) else content:
            yield from texts_in(each)


@pytest.mark.parametrize("dataset", ["bandai_namco", "cmu_more", "cmu_sample", "two_person"])
def test_no_wording_is_a_caption_or_the_mirror_of_one(dataset):
    found = set(texts_in(json.loads(shared("data", dataset, "captions.json").read_text())))
    captions = {plain_words(text) for caption in found for text in (caption, mirror_text(caption))}
    assert len(captions) > 50 and plain_words("A person bows, deeply!") == "a person bows deeply"
    assert {text for text in PROBES.texts() if plain_words(text) in captions} == set()


# ---------------------------------------------------------------------------------------- merged datasets, reports


@pytest.fixture(scope="module")
def merged(small_dataset, tmp_path_factory) -> Corpus:
    """The small dataset and a made-up one together."""
    folder = tmp_path_factory.mktemp("merged")
    merge([str(small_dataset), str(random_corpus(folder / "other"))], folder / "both")
    return Corpus.open(folder / "both")


def test_recordings_of_merged_datasets_are_known_by_their_own_names(small_dataset, merged):
    corrected = replace(BASE, relabelled={"dataset-2_walk_normal_001": "walk-turn-left"})
    alone = {clip.name: clip for clip in real_clips(Corpus.open(small_dataset), corrected)}
    together = {clip.name: clip for clip in real_clips(merged, corrected)}
    assert len(together) == len(alone) + 24
    for name, clip in alone.items():
        twin = together[f"small__{name}"]
        assert (twin.content, twin.actor, twin.style, twin.split) == (clip.content, clip.actor, clip.style, clip.split)
        np.testing.assert_array_equal(twin.joints, clip.joints)
    walk = alone["dataset-2_walk_normal_001"]
    assert (walk.content, walk.actor) == ("walk-turn-left", "dataset-2")
    assert corrected.content_of({"mirrored": True, "source": walk.name, "content": "walk"}, "") == "walk"


def test_takes_of_one_subject_are_by_one_actor(merged):
    corpus = Corpus.open(merged.folder)
    corpus.labels = [{**label, "recording": "13_09"} if label["dataset"] == "other" else label for label in merged.labels]
    assert {clip.actor for clip in real_clips(corpus, BASE)} == {"dataset-2", "13"}


def test_a_content_of_few_takes_is_listed_and_not_counted(small_dataset):
    corpus = Corpus.open(small_dataset)
    raised = PROBES["raise left hand"]
    chosen = [replace(raised, name="lift the left hand"), replace(raised, group=ACTIVITIES)]
    judging = replace(PROBES, probes=tuple(chosen))
    clips, validity = validate_on(corpus, judging)
    assert [row.takes for row in validity] == [(2, 1, 1)] * 2 and all(row.rare for row in validity)
    probed = probe_real(clips, judging, chosen, FPS)
    few = summarise(probed, validity)
    assert few["overall"] is None and few["activities"] is None and few["rare_contents"] == 1.0
    enough = summarise(probed, [replace(row, takes=(RARE, 1, 1), rare=False) for row in validity])
    assert enough["activities"] == 1.0 == enough["overall_without_activities"] and enough["rare_contents"] is None
    facts = {"source": "x", "summary": few, "physics": {}, "memorisation": {}, "wordings": False, "made_from": {}, "command": ""}
    text = probe_report(facts, validity, probed, []).markdown()
    assert "2/1/1" in text and "rare content: not counted" in text and RATES["rare_contents"] in text


def test_long_takes_are_judged_whole_and_by_the_clips_they_were_cut_into(tmp_path, recordings, small_dataset):
    cut = tmp_path / "cut"
    prepare(PreparationSettings("bandai_namco", input=recordings, output=cut, workers=1, max_frames=30, still_speed=0))
    whole = {clip.name: clip for clip in real_clips(Corpus.open(small_dataset), PROBES)}
    for clip in real_clips(Corpus.open(cut), PROBES):
        assert whole[clip.name].cuts == (whole[clip.name].measures,)
        assert len(clip.cuts) == -(-len(clip.joints) // 30) > 1
        np.testing.assert_allclose(clip.joints[..., 1], whole[clip.name].joints[..., 1], atol=1e-5)
        assert sum(told["seconds"] for told in clip.cuts) == pytest.approx(clip.measures["seconds"])


# ---------------------------------------------------------------------------------------- recordings


@pytest.fixture(scope="module")
def bandai_cmu(tmp_path_factory, bandai_namco) -> Path:
    """The merged recordings, CMU's without mirrored twins."""
    folder = tmp_path_factory.mktemp("bandai_cmu")
    parts = {"cmu_more": "cmu_more", "cmu_sample": "cmu_sample", "cmu_salsa": "two_person"}
    for name, pack in parts.items():
        prepare(PreparationSettings(name, input=shared("data", pack), output=folder / name, mirror=False))
    merge([str(bandai_namco), *(str(folder / name) for name in parts)], folder / "bandai_cmu")
    return folder / "bandai_cmu"


@pytest.mark.slow
def test_every_probe_is_valid_on_bandai_namco_and_cmu_together(bandai_cmu):
    clips, rows = validate_on(Corpus.open(bandai_cmu), PROBES)
    assert {row.probe: row.reasons for row in rows if not row.valid} == {}
    assert {row.probe for row in rows if row.rare} == RARELY_SHOWN
    assert all(row.own_cuts >= 0.75 for row in rows if row.own_cuts is not None and not row.rare)
    climbs = [clip for clip in clips if clip.content == "climb"]
    assert len(climbs) == 13 and all(len(clip.cuts) > 1 for clip in climbs)
    assert {clip.actor for clip in clips if clip.content == "salsa"} == {"60", "61"}
