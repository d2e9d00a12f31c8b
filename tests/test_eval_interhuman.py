"""Models of two people judged beside real motion: what a pass draws, controls, reports, and individual diversity."""

import csv
import json
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import FeaturesMismatch
from data_loaders.interaction_batches import InteractionDataset
from evaluations import eval_dualmdm, interaction_report
from evaluations.eval_interhuman import EvalInterhumanOptions
from evaluations.eval_interhuman import main as eval_interhuman
from evaluations.eval_interhuman import run as evaluate
from evaluations.individual_diversity import BLEND, FLOOR
from evaluations.interaction_set import (
    JITTERED,
    PLAYED_BACK,
    SWAPPED,
    InteractionSource,
    PairCaption,
    baselines_of,
    interaction_set,
    noisy_paths,
    partners_swapped,
)
from evaluations.metrics import Interval
from evaluations.metrics_report import Measured
from evaluations.protocol import GENERATED, GIVEN, PROTOCOLS, REAL, SHUFFLED, finding_texts
from evaluations.report import read_report
from evaluations.transport import assignment_cost, transport_cost
from model.in2in_config import In2INConfig
from protos.options import run_command
from tests.pairs import PAIR
from tests.tiny_people import tiny_in2in

WIDTH = 262


@pytest.fixture(scope="module")
def corpus(pair_dataset):
    return Corpus.open(pair_dataset)


@pytest.fixture(scope="module")
def data(corpus):
    return interaction_set(corpus)


@pytest.fixture(scope="module")
def both(tmp_path_factory, corpus):
    return tiny_in2in(tmp_path_factory.mktemp("models") / "both", corpus)


@pytest.fixture(scope="module")
def individual(tmp_path_factory, corpus):
    return tiny_in2in(tmp_path_factory.mktemp("models") / "one", corpus, one=True)


@pytest.fixture
def options(pair_dataset, judge, tmp_path):
    def make(**changes):
        settings = {"dataset": str(pair_dataset), "evaluator": judge, "replications": 2, "output_dir": tmp_path / "out",
                    "sampling_steps": 2, "device": "cpu", "physics_clips": 3, **changes}  # fmt: skip
        return EvalInterhumanOptions(**settings)

    return make


# ------------------------------------------------------------------------------------------------------------- what a pass draws


def test_whoever_is_first_starts_at_the_origin_facing_z(data):
    for exchanged in (0, 1):
        joints = PAIR.joints(torch.from_numpy(data.motion(4, 10, 20, exchanged)))  # (2, T, 22, 3)
        first = joints[0, 0]
        assert first[0, [0, 2]].abs().max() < 1e-5
        across = first[2] - first[1]  # right hip minus left hip
        assert across[0] < 0 and across[2].abs() < 1e-5


def test_exchanging_the_people_keeps_them_as_far_apart_as_they_are(data):
    plain, exchanged = (PAIR.joints(torch.from_numpy(data.motion(4, 10, 20, how))) for how in (0, 1))
    assert torch.allclose(torch.cdist(plain[0], plain[1]), torch.cdist(exchanged[1], exchanged[0]), atol=1e-4)


def test_a_pass_takes_windows_of_the_longest_allowed_and_exchanges_half_of_the_people(data):
    long = replace_longest(data, 30)
    drawn = [long.draw(np.random.default_rng(seed), pool=9) for seed in range(40)]
    lengths, starts = (np.concatenate([getattr(each, name) for each in drawn]) for name in ("length", "start"))
    assert set(lengths) == {30} and starts.max() > 0
    assert 0.35 < np.concatenate([each.exchanged for each in drawn]).mean() < 0.65


def replace_longest(data, frames):
    return type(data)(data.entries, data.features, frames, data.floor)


def test_the_loader_of_intergen_exchanges_people_once_more_where_they_are(data):
    twice = type(data)(data.entries, data.features, data.longest, data.floor, twice=True)
    drawn = np.concatenate([twice.draw(np.random.default_rng(seed), pool=9).exchanged for seed in range(10)])
    assert set(drawn) == {0, 1, 2, 3}
    plain, again = (twice.motion(4, 10, 20, how) for how in (1, 3))
    assert np.array_equal(np.roll(plain, WIDTH, axis=1), again)


def test_captions_come_with_a_text_about_each_person(data):
    for entry in data.entries:
        assert len(entry.captions) == 2
        for caption in entry.captions:
            assert isinstance(caption, PairCaption) and len(caption.individuals) == 2
    walking = next(each for each in data.entries if "toward" in each.captions[0].text)
    assert walking.captions[0].individuals == ("a person stands", "a person walks toward the partner")


def test_texts_about_each_are_given_to_models_that_read_them_alone(corpus):
    caption = PairCaption("two people walk", individuals=("one walks", "the other walks"))
    for reads in (True, False):
        config = In2INConfig(features=PAIR, individual_texts=reads, latent_dim=16, num_heads=2, text_heads=2, text_dim=384)
        model = type("Model", (), {"config": config, "statistics": corpus.statistics})()
        request = InteractionSource(model, corpus).request(caption, 60, 3)
        assert request.individual_texts == (caption.individuals if reads else None) and request.text == caption.text


def test_data_of_one_person_are_refused_in_a_line(small_dataset):
    with pytest.raises(FeaturesMismatch, match="expected interhuman"):
        interaction_set(Corpus.open(small_dataset))


# ---------------------------------------------------------------------------------------------------------------------- controls


def test_a_swapped_partner_is_that_of_another_motion_where_it_was(data):
    motions = [each + 100 * i for i, each in enumerate(data.motions(data.draw(np.random.default_rng(0), pool=9)))]
    made = partners_swapped(motions, PAIR, np.random.default_rng(1))
    partners = []
    for own, other in zip(motions, made):
        assert np.array_equal(other[:, :WIDTH], own[: len(other), :WIDTH])
        second = other[:, WIDTH:]
        (source,) = [i for i, each in enumerate(motions) if np.array_equal(each[: len(second), WIDTH:], second)]
        partners.append(source)
    assert sorted(partners) == list(range(9)) and all(i != partner for i, partner in enumerate(partners))


def test_noise_on_paths_moves_whole_bodies_over_the_floor_by_a_tenth_of_their_spread(data):
    motion = data.motion(1, 0, 60)
    made = noisy_paths(motion, PAIR, np.random.default_rng(0))
    before, after = (PAIR.joints(torch.from_numpy(each)).numpy() for each in (motion, made))
    shift = after - before  # (2, T, 22, 3)
    assert np.abs(shift - shift[:, :, :1]).max() < 1e-4 and np.abs(shift[..., 1]).max() < 1e-5
    spread, noise = before[:, :, 0].std(1), shift[:, :, 0].std(1)  # (2, 3)
    moving = spread > 0.1
    moving[:, 1] = False
    assert moving.any() and (np.abs(noise[moving] / spread[moving] - 0.1) < 0.04).all()
    velocity = made[:, 66:69]
    assert np.allclose(velocity[:-1], np.diff(after[0, :, 0], axis=0), atol=1e-4)  # velocities follow


def test_the_nearest_training_segment_is_played_back_to_its_own_sentence(corpus):
    play, examples = baselines_of(corpus)[PLAYED_BACK], InteractionDataset(corpus, "train").examples
    one = [each for each in examples if not each.mirrored][1]
    (made,) = play([PairCaption(one.texts[0])], [40], [0])
    own = corpus[one.clip][:40]
    assert made.shape == (40, 2 * WIDTH)
    apart = [np.linalg.norm(each[:, :3] - each[:, WIDTH : WIDTH + 3], axis=1) for each in (made, own)]
    np.testing.assert_allclose(*apart, atol=1e-4)  # itself, or its mirror image, of which the same is said


# ---------------------------------------------------------------------------------------------------------------------- protocol


def test_published_protocols_of_two_people_are_data():
    for name, replications in (("intergen", 20), ("in2in", 10)):
        protocol = PROTOCOLS[name]
        assert (protocol.pool, protocol.embedding_scale, protocol.diversity_divisor) == (96, 6.0, 2.0)
        assert protocol.replications == replications and protocol.multimodality_texts == 100


def test_scaling_of_embeddings_is_that_of_the_published_protocol():
    embeddings, protocol = np.random.default_rng(0).normal(size=(40, 5)), PROTOCOLS["intergen"]
    plain = PROTOCOLS["t2m"]
    def drawn():
        return np.random.default_rng(1)

    assert protocol.diversity(embeddings, drawn()) == pytest.approx(3 * plain.diversity(embeddings, drawn()))
    np.testing.assert_allclose(protocol.gaussian(embeddings).covariance, 36 * plain.gaussian(embeddings).covariance)


def test_a_judge_finds_the_texts_of_motions_that_are_said_alike():
    text = np.eye(4)[[0, 1, 1, 3]]
    found = finding_texts(text, np.eye(4)[[0, 1, 1, 2]], ["a", "b", "b", "d"], 4)
    assert found["top1"] == 1  # of the last motion all are equally near
    assert found["chance1"] == pytest.approx((1 / 4 + 1 / 2 + 1 / 2 + 1 / 4) / 4)
    wrong = finding_texts(text, text[::-1].copy(), ["a", "b", "b", "d"], 4)
    assert wrong["top1"] == 0.5


# ------------------------------------------------------------------------------------------------------------------------ report


def measured(replications: int = 20, motions: int = 1000, **rows) -> Measured:
    def row(top, fid):
        return {**{f"top{k}": Interval(top, 0.01) for k in (1, 2, 3)}, "fid": Interval(fid, 0.1),
                "mm_dist": Interval(3.8, 0.01), "diversity": Interval(7.8, 0.05)}  # fmt: skip

    return Measured(
        what="x", dataset="d", split="test", protocol="intergen", whose="w", evaluator="e", replications=replications, seed=0,
        rows={REAL: row(0.43, 0.3), **{name: row(*values) for name, values in rows.items()}}, values=[], physics={},
        motions=motions, pool=96, made_from={}, command="c",
    )  # fmt: skip


def test_rows_are_told_apart_where_intervals_do_not_meet():
    found = interaction_report.told_apart(measured(generated=(0.3, 5.9), alike=(0.44, 0.35)))
    assert found["generated"] == {"top1": "lower", "top2": "lower", "top3": "lower", "fid": "higher", "mm_dist": "no",
                                  "diversity": "no"}  # fmt: skip
    assert set(found["alike"].values()) == {"no"} and set(found["chance"].values()) == {"lower"}
    beside = interaction_report.told_apart(measured(generated=(0.3, 5.9), other=(0.5, 5.9)), GENERATED)
    assert beside["other"]["top1"] == beside[REAL]["top1"] == "higher" and beside["other"]["fid"] == "no"
    assert interaction_report.told_apart(measured(1, generated=(0.3, 5.9))) == {}


def test_shares_of_few_motions_are_not_told_apart_by_the_replications_alone():
    few = interaction_report.told_apart(measured(motions=12, generated=(0.3, 5.9)))["generated"]
    assert few["top1"] == "no" and few["fid"] == "higher"
    assert interaction_report.of_so_many(Interval(0.5, 0.0), 100).half_width == pytest.approx(0.096, abs=0.002)


def test_real_motion_stands_first_beside_what_is_published_and_what_is_commonly_measured():
    found = replace(measured(generated=(0.3, 5.9)), published="interhuman")
    _, rows = interaction_report.interaction_table(found)
    labels = [row[0] for row in rows]
    assert labels[:4] == [REAL, "published: ground truth", "measured: ground truth (InterGen, issue 44)",
                          "measured: ground truth (in2IN, issue 5)"]  # fmt: skip
    assert labels.index("generated") < labels.index("chance, in pools of 96") < labels.index("published: InterGen")
    assert rows[labels.index("chance, in pools of 96")][1].mean == pytest.approx(1 / 96)
    assert interaction_report.unusual_truth(found)  # R@2 and R@3 of it are not those of others
    assert not interaction_report.unusual_truth(replace(found, published=None))


# ---------------------------------------------------------------------------------------------------------------------- commands


def test_a_model_of_two_people_is_judged_in_one_pool_of_all_segments(options, both, tmp_path, capsys):
    found = evaluate(options(model_path=str(both)))
    assert list(found.rows) == [REAL, GENERATED, PLAYED_BACK, SHUFFLED, SWAPPED, JITTERED]
    assert found.pool == found.motions == 9 and found.judge["chance1"].mean == pytest.approx(1 / 9)
    assert set(found.physics) == {REAL, GENERATED, PLAYED_BACK, SWAPPED, JITTERED}
    assert found.physics[REAL]["interpenetration"] == 0 and found.physics[GENERATED]["clips"] == 3
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Pools of 9 (all test segments)" in text and "| chance, in pools of 9" in text and "## Told apart" in text
    assert capsys.readouterr().out.strip() in text
    lines = list(csv.DictReader((tmp_path / "out" / "motions.csv").open()))
    assert len(lines) == 2 * 3 * 9 and {line["row"] for line in lines} == {REAL, GENERATED, PLAYED_BACK}
    again = evaluate(options(model_path=str(both), output_dir=tmp_path / "again"))
    assert again.values == found.values
    stored = read_report(tmp_path / "out", Measured, "evaluations.eval_interhuman")
    assert stored.judge == found.judge and stored.pool == 9


def test_an_interrupted_evaluation_goes_on(options, tmp_path):
    whole = evaluate(options(output_dir=tmp_path / "whole", replications=3))
    evaluate(options(replications=1))
    first = (tmp_path / "out" / "replications" / "00.json").stat().st_mtime_ns
    gone_on = evaluate(options(replications=3))
    assert (tmp_path / "out" / "replications" / "00.json").stat().st_mtime_ns == first
    assert gone_on.rows[REAL]["top1"] == whole.rows[REAL]["top1"] and gone_on.physics == whole.physics
    assert gone_on.judge == whole.judge


def test_real_motion_alone_is_judged_without_a_model_on_the_dataset_of_the_judge(judge, pair_dataset, tmp_path, monkeypatch):
    settings = json.loads((judge / "config.json").read_text())
    named = tmp_path / "judge"
    named.mkdir()
    for file in ("model.safetensors", "stats.npz"):
        (named / file).write_bytes((judge / file).read_bytes())
    (named / "config.json").write_text(json.dumps({**settings, "dataset": str(pair_dataset)}))
    found = evaluate(EvalInterhumanOptions(evaluator=named, replications=2, output_dir=tmp_path / "out", device="cpu",
                                           controls=False))  # fmt: skip
    assert list(found.rows) == [REAL] and found.dataset == pair_dataset.name


def test_motions_of_another_program_are_judged_and_those_of_one_person_named(options, data, corpus, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    for i, entry in enumerate(data.entries):
        np.save(folder / f"{i}.npy", PAIR.joints(torch.from_numpy(np.array(entry.motion))).numpy())
        (folder / f"{i}.txt").write_text(entry.captions[0].text)
    found = evaluate(options(motions=folder, physics_clips=9))
    assert list(found.rows)[:2] == [REAL, GIVEN] and GENERATED not in found.rows
    assert abs(found.physics[GIVEN]["interpenetration"] - found.physics[REAL]["interpenetration"]) < 5
    np.save(folder / "x.npy", np.zeros((30, 22, 3)))
    (folder / "x.txt").write_text("one person")
    with pytest.raises(ValueError, match=r"1 of the motions could not be read \(x\)"):
        evaluate(options(motions=folder, output_dir=tmp_path / "again"))
    assert "22 of 2" in json.loads((tmp_path / "again" / "report.json").read_text())["unreadable"]["x"]


def test_what_is_wrong_is_said_in_a_line(pair_dataset, small_dataset, judge, tmp_path, capsys, monkeypatch):
    for arguments, said in (
        ([], "Give --dataset"),
        (["--dataset", str(small_dataset), "--evaluator", str(judge)], "expected interhuman"),
        (["--dataset", str(pair_dataset), "--evaluator", str(tmp_path / "none")], "train_interclip"),
        (["--dataset", str(pair_dataset), "--evaluator", str(judge), "--model_path", str(tmp_path)], "no checkpoint"),
    ):
        monkeypatch.setattr("sys.argv", ["eval_interhuman", *arguments, "--output_dir", str(tmp_path / "out"), "--device", "cpu"])
        with pytest.raises(SystemExit) as stopped:
            run_command(eval_interhuman)
        error = capsys.readouterr().err.strip().splitlines()
        assert stopped.value.code and said in error[-1] and "Traceback" not in "".join(error), error


# --------------------------------------------------------------------------------------------------------- individual diversity


def sets(seed: int, count: int = 32, dim: int = 6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator), torch.randn(count, dim, generator=generator) + 0.5


def test_carrying_a_set_over_to_itself_costs_nothing_and_to_a_shifted_copy_the_shift():
    a, _ = sets(0)
    assert float(transport_cost(a, a[torch.randperm(32)])) == pytest.approx(0, abs=1e-3)
    shift = torch.tensor([3.0, 4.0, 0, 0, 0, 0])
    assert float(transport_cost(a, a + shift)) == pytest.approx(5, rel=0.01) and assignment_cost(a, a + shift) == pytest.approx(5)


def test_it_costs_as_much_as_the_best_assignment_where_it_settles_and_nearly_so_before():
    a, b = sets(1, count=6)
    best = min(torch.cdist(a, b)[range(6), order].mean().item() for order in permutations(range(6)))
    assert assignment_cost(a, b) == assignment_cost(b, a) == pytest.approx(best, rel=1e-5)
    assert float(transport_cost(a, b, updates=5000)) == pytest.approx(best, rel=3e-3)
    assert float(transport_cost(a, b, updates=50)) == pytest.approx(best, rel=0.15)


def test_several_pairs_of_sets_cost_what_each_does():
    pairs = [sets(i) for i in range(3)]
    together = transport_cost(torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs]))
    assert torch.allclose(together, torch.stack([transport_cost(a, b) for a, b in pairs]), atol=1e-3)


def test_sets_without_rows_or_with_nan_are_refused():
    a, b = sets(0)
    for bad in (a[:0], a * torch.nan):
        with pytest.raises(ValueError, match="expected at least one row"):
            transport_cost(bad, b)


def test_a_blend_is_compared_with_two_people_alone_and_with_other_seeds_of_them(both, individual, pair_dataset, judge, tmp_path):
    def measure(name: str):
        return eval_dualmdm.run(eval_dualmdm.EvalDualMDMOptions(
            model_path=both, individual_path=individual, texts=str(pair_dataset), evaluator=judge, clips=2, motions=4,
            replications=2,
            sampling_steps=2, device="cpu", output_dir=tmp_path / name))  # fmt: skip

    found = measure("one")
    assert list(found.rows) == [BLEND, FLOOR] and found.clips == 2
    assert found.rows[BLEND][1].mean > found.rows[FLOOR][1].mean > 0
    assert measure("other").values == found.values
    text = (tmp_path / "one" / "report.md").read_text()
    assert "EID ↑" in text and "two sets made alike" in text


def test_a_model_that_is_no_blend_is_refused_in_a_line(both, pair_dataset, tmp_path):
    with pytest.raises(ValueError, match="was not made of one of mode individual"):
        eval_dualmdm.run(eval_dualmdm.EvalDualMDMOptions(model_path=both, device="cpu", output_dir=tmp_path / "x"))
