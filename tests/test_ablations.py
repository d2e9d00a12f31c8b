"""What the parts of a reaction model are worth: runs without them beside complete ones."""

import csv
import json

import numpy as np
import pytest

from evaluations.ablations import COMPLETE, Run, beside_complete, spread_of, summary, verdict
from evaluations.eval_ablations import EvalAblationsOptions, run
from evaluations.metrics import Interval
from evaluations.reaction_set import MEAN_POSE, MIRROR, NEAREST, SHUFFLED
from evaluations.reactions import TRUTH
from tests.pairs import pair_corpus
from tests.tiny_people import tiny_interclip, tiny_reaction

LEFT_OUT = "without alignment"


def runs_of(*means: float) -> list[Run]:
    """Runs of these MPJPE, on three recordings that differ by 100 mm."""
    return [Run({"mpjpe": [mean - 100, mean, mean + 100]}, {"fid": mean}) for mean in means]


def test_a_part_is_told_by_recordings_of_which_each_is_its_own_control():
    runs = {COMPLETE: runs_of(200, 210, 220), LEFT_OUT: runs_of(230, 250), TRUTH: runs_of(0)}
    found, gap = summary(runs), beside_complete(runs)
    assert found[COMPLETE]["mpjpe"].mean == pytest.approx(210) and found[COMPLETE]["mpjpe"].half_width > 200  # recordings differ
    assert gap == {LEFT_OUT: (pytest.approx(30), pytest.approx(0))}
    assert spread_of(runs) == {COMPLETE: (200, 220), LEFT_OUT: (230, 250)}
    assert found[LEFT_OUT]["fid"].mean == 240 and found[LEFT_OUT]["fid"].half_width == pytest.approx(127.06, abs=0.01)


def test_nothing_is_claimed_where_the_interval_holds_zero():
    assert [verdict(Interval(mean, 5)) for mean in (6, 4, -4, -6)] == ["farther", "not apart", "not apart", "nearer"]
    assert verdict(None) is None


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablations")
    corpus, judge = pair_corpus(folder / "pairs", train=6, held_out=3), tiny_interclip(folder / "judge")

    def make(**changes) -> EvalAblationsOptions:
        settings = {"dataset": str(corpus), "evaluator": judge, "samples": 2, "device": "cpu", "sampling_steps": 2}
        return EvalAblationsOptions(**settings | changes)

    return make


def test_the_command_puts_every_part_beside_the_complete_model(options, tmp_path):
    models = [
        tiny_reaction(tmp_path / "full_1", 1), tiny_reaction(tmp_path / "full_2", 2),
        tiny_reaction(tmp_path / "no_alignment_1", 1, alignment=False),
        tiny_reaction(tmp_path / "no_semantics_1", 1, semantics=False),
    ]  # fmt: skip
    found = run(options(model_paths=tuple(models), output_dir=tmp_path / "out"))
    assert list(found.rows) == [COMPLETE, LEFT_OUT, "without semantics", TRUTH, SHUFFLED, MEAN_POSE, NEAREST, MIRROR]
    assert found.runs[COMPLETE] == [str(path) for path in models[:2]] and found.segments == 3
    low, high = found.spread[COMPLETE]
    assert low < found.rows[COMPLETE]["mpjpe"].mean < high and list(found.spread) == [COMPLETE]
    assert found.rows[TRUTH]["mpjpe"] == (0, 0) and found.rows[COMPLETE]["best_mpjpe"].mean < high
    assert set(found.beside) == set(found.rows) - {COMPLETE, TRUTH}
    assert found.beside[MIRROR].mean == pytest.approx(found.rows[MIRROR]["mpjpe"].mean - found.rows[COMPLETE]["mpjpe"].mean)
    for name in ("fid", "diversity", "multimodality", "alignment"):
        assert np.isfinite(found.rows["without semantics"][name].mean)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "best of 2" in text and "chance: 33.3 %" in text and "–" in text
    assert json.loads((tmp_path / "out" / "report.json").read_text())["made_from"]["model full_2"]
    assert len(list(csv.DictReader((tmp_path / "out" / "runs.csv").open()))) == 4


@pytest.mark.parametrize(("changes", "why"), [
    ({"encoder_dim": 16}, "encoder_dim 16, .* differ in the parts they do without"),
    ({"alignment": False}, "none of these models has all parts"),
])  # fmt: skip
def test_models_that_cannot_be_compared_are_told_in_a_line(options, tmp_path, changes, why):
    models = [tiny_reaction(tmp_path / "other", 1, **changes)]
    if "alignment" not in changes:
        models.insert(0, tiny_reaction(tmp_path / "full", 1))
    with pytest.raises(ValueError, match=why):
        run(options(model_paths=tuple(models), output_dir=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
