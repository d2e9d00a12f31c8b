"""What TMR and TEMOS read and are measured by: spans of files, whole-file and rifke features, saved text features, APE."""

import json

import numpy as np
import pytest
import torch

from data_loaders import annotated_clips as annotations
from data_loaders import guoh3dfeats, rifke
from data_loaders.corpus import Corpus, cut_span
from data_loaders.skeleton import load_skeleton
from evaluations.ape_ave import ape_ave
from evaluations.eval_ape_ave import main as measure
from model.text_encoders import SavedTexts
from model.text_towers import load_text_encoder
from protos.outputs import OutputError
from tests.saved_texts import save_text_features
from tests.synthetic import raise_hand, walk

# -------------------------------------------------------------------------------------------------------------- spans


def entry(*spans, path="KIT/3/walk_poses"):
    captions = [{"seg_id": f"a_{i}", "text": "a person walks", "start": a, "end": b} for i, (a, b) in enumerate(spans)]
    return {"path": path, "duration": 12.0, "annotations": captions}


def test_spans_of_2_to_10_seconds_count_both_ends_included():
    files = annotations.parse_annotations({
        "a": entry((0, 2.0), (1, 11.0), (0, 11.5)), "b": entry((0.3, 2.3)), "c": entry((0.0, 1.9))})
    kept = {key: [a.seg_id for a in annotations.within_seconds(file.annotations)] for key, file in files.items()}
    assert kept == {"a": ["a_0", "a_1"], "b": [], "c": []}  # 2.3 - 0.3 is a little less than 2


def test_test_splits_keep_every_duration_and_unknown_keys_are_left_out(tmp_path):
    (tmp_path / "splits").mkdir()
    (tmp_path / "annotations.json").write_text(json.dumps({"a": entry((0, 1.0)), "b": entry((0, 3.0))}))
    for split in ("nsim_test", "all"):
        (tmp_path / "splits" / f"{split}.txt").write_text("b\nx\na")
    data = Corpus(tmp_path)
    assert [data.names[clip] for clip in data.captioned("nsim_test")] == ["b", "a"]
    assert [data.names[clip] for clip in data.captioned("all")] == ["b"]


def test_a_span_ends_with_its_file_and_may_have_no_frame():
    features = np.arange(120)[:, None]
    spans = ((0.29, 0.58), (5.95, 9.0), (7.0, 8.0))
    found = [cut_span(features, start, end, 20.0)[:, 0].tolist() for start, end in spans]
    assert found == [list(range(5, 11)), [119], []]  # products are cut, not rounded


def test_an_annotations_file_that_is_none_is_named(tmp_path):
    path = tmp_path / "annotations.json"
    with pytest.raises(annotations.FileError, match="absent"):
        annotations.read_annotations(path)
    for content in ("{", "[1]", '{"a": {"path": "x"}}', json.dumps({"a": {**entry(), "annotations": [{"text": "x"}]}})):
        path.write_text(content)
        with pytest.raises(annotations.FileError, match="not an annotations file"):
            annotations.read_annotations(path)
    path.write_text(json.dumps({"a": entry((0, 3))}))
    assert annotations.read_annotations(path)["a"].annotations[0].seconds == 3


# --------------------------------------------------------------------------------------------------- whole-file features


def test_files_are_written_with_their_mirror_and_kept_when_there(tmp_path):
    source, output = tmp_path / "pose_data", tmp_path / "guoh3dfeats"
    joints = walk(30)
    for name, frames in (("KIT/3/walk", 30), ("humanact12/humanact12/P01", 30), ("KIT/3/short", 1)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(source / f"{name}.npy", joints[:frames])
    written = {path.relative_to(output).as_posix() for path in guoh3dfeats.write_features(source, output)}
    assert written == {f"{m}{name}.npy" for m in ("", "M/") for name in ("KIT/3/walk", "humanact12/humanact12/P01")}
    plain = np.load(output / "KIT/3/walk.npy")
    assert plain.shape == (29, 263) and plain.dtype == np.float32
    assert list(guoh3dfeats.write_features(source, output)) == []
    assert len(list(guoh3dfeats.write_features(source, output, force=True))) == 4


def test_the_mirror_of_a_left_hand_is_a_right_hand():
    left, right = (torch.from_numpy(raise_hand(30, side)) * torch.tensor([-1.0, 1.0, 1.0]) for side in ("left", "right"))
    mirror = guoh3dfeats.file_features(left, "KIT/3/a", mirror=True)
    torch.testing.assert_close(mirror, guoh3dfeats.file_features(right, "KIT/3/a"), rtol=0, atol=0.02)
    assert (mirror - guoh3dfeats.file_features(left, "KIT/3/a")).abs().max() > 0.3


@pytest.mark.parametrize("count", [22, 24, 52])
def test_mirroring_exchanges_sides_for_every_body_and_twice_is_nothing(count):
    joints = torch.randn(5, count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = guoh3dfeats.mirrored(joints)
    skeleton = load_skeleton("humanml")
    left, right = list(skeleton.left_joints), list(skeleton.right_joints)
    assert torch.equal(once[:, left], joints[:, right] * torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.equal(guoh3dfeats.mirrored(once), joints)
    fingers = list(skeleton.left_hand)
    assert (count == 52) == (count > max(fingers) and torch.equal(once[:, fingers][..., 1:],
                                                                  joints[:, list(skeleton.right_hand)][..., 1:]))


def test_only_humanact12_is_not_reflected():
    joints = torch.ones(2, 22, 3)
    assert (guoh3dfeats.reflected(joints, "CMU/75/a")[..., 0] == -1).all()
    assert torch.equal(guoh3dfeats.reflected(joints, "humanact12/humanact12/a"), joints)


# -------------------------------------------------------------------------------------------------------------- rifke


def mmm_motion(frames=40, seed=0):
    """Joints (T, 21, 3) in millimetres of a body that walks a curve and swings its limbs a little."""
    draw = torch.Generator().manual_seed(seed)
    rest = 300 * torch.randn(21, 3, generator=draw)
    rest[:, 1] += 900
    for name, place in (("LE", 300.0), ("LK", 120.0), ("RE", -300.0), ("RK", -120.0)):
        rest[rifke.MMM_JOINTS.index(name)] = torch.tensor([place, 700.0, 0.0])
    rest[0] = torch.tensor([0.0, 900.0, 0.0])
    time = torch.linspace(0, 3, frames)[:, None]
    swing = 20 * torch.sin(4 * time + torch.arange(21))[..., None]
    joints = turn(rest + swing, 0.5 * time)
    return joints + torch.stack([800 * time, 0 * time, 300 * time.square()], dim=-1)


def turn(joints, angle):
    angle = torch.as_tensor(angle, dtype=joints.dtype)
    x, y, z = joints.unbind(-1)
    return torch.stack([x * angle.cos() + z * angle.sin(), y, z * angle.cos() - x * angle.sin()], dim=-1)


def test_rifke_features_decode_to_their_joints_seen_from_the_start():
    joints = mmm_motion()
    decoded = rifke.joints_from_features(rifke.rifke_from_joints(joints))
    sine, cosine = rifke.heading(joints)
    moved = joints - joints[:1, :1] * torch.tensor([1.0, 0.0, 1.0])
    moved[..., 1] -= rifke.floor_height(joints)
    level = rifke.turned(moved[..., [0, 2]], sine[0], cosine[0])
    expected = torch.stack([level[..., 0], moved[..., 1], level[..., 1]], dim=-1)
    torch.testing.assert_close(decoded, expected, rtol=1e-4, atol=0.1)  # millimetres


def test_rifke_features_do_not_know_where_a_motion_starts_and_faces():
    joints = mmm_motion()
    elsewhere = turn(joints, 1.1) + torch.tensor([500.0, 70.0, -300.0])
    a, b = (rifke.rifke_from_joints(x) for x in (joints, elsewhere))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=0.05)
    assert a.shape == (40, 64) and (a[0, 61:] == 0).all()


def test_upsampling_keeps_the_given_frames_and_goes_straight_between():
    motion = torch.tensor([[0.0], [1.0], [5.0]])
    made = rifke.upsampled(motion, 4)
    assert made[::4].flatten().tolist() == [0, 1, 5] and made[:, 0].diff().tolist() == [0.25] * 4 + [1.0] * 4
    assert len(rifke.upsampled(motion[:1], 4)) == 1


def test_a_motion_has_no_error_however_it_is_placed_and_a_shift_of_all_joints_is_its_ape():
    joints = mmm_motion()
    numbers = ape_ave([(joints, [turn(joints, 0.7) + torch.tensor([1000.0, 0.0, 50.0])])])
    assert max(numbers.values()) < 1e-4 and len(numbers) == 8
    raised = joints.clone()
    raised[1:, 0, 1] += 100.0  # of the root, in all frames but one
    numbers = ape_ave([(joints, [raised])])
    assert numbers["APE_root"] == pytest.approx(0.1 * 39 / 40, rel=1e-3)
    assert numbers["APE_traj"] < 1e-4 and numbers["APE_mean_joints"] == pytest.approx(numbers["APE_root"] / 21, rel=1e-2)


def test_the_sample_whose_root_strays_least_stands_for_all():
    joints = mmm_motion()
    near, far = (joints + step * torch.linspace(0, 1, 40)[:, None, None] * torch.tensor([1.0, 0.0, 0.0]) for step in (50, 400))
    found = {pick: ape_ave([(joints, [far, near])], pick)["APE_root"] for pick in ("first", "best", "worst")}
    assert found["first"] == found["worst"] > 4 * found["best"] > 0
    assert ape_ave([(joints, [far]), (joints, [near])])["APE_root"] == pytest.approx((found["best"] + found["worst"]) / 2)


# ---------------------------------------------------------------------------------------------------------- saved texts

TEXTS = ["A person walks forwards.", "someone jumps high", "A person walks forwards.", "dance"]


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm", disk_cache=False)


@pytest.mark.parametrize("words", [True, False])
def test_saved_features_are_those_of_the_encoder_and_texts_are_looked_up_as_written(minilm, tmp_path, words):
    save_text_features(tmp_path / "hub" / "minilm", TEXTS, minilm, words)
    assert (tmp_path / "hub" / "minilm_slice.npy").exists() == words
    saved, direct = SavedTexts.load(tmp_path / "hub" / "minilm"), minilm.encode(TEXTS)
    encoder = load_text_encoder("minilm", disk_cache=False, saved=saved)
    again = encoder.encode(TEXTS)
    if words:
        torch.testing.assert_close(again.tokens, direct.tokens)
        assert torch.equal(again.mask, direct.mask)
    else:
        torch.testing.assert_close(again.pooled, direct.pooled)
    assert "dance" in saved and "Dance" not in saved
    mixed, whole = encoder.encode(["dance", "someone bows", "dance"]), minilm.encode(["someone bows"])  # the second is not saved
    torch.testing.assert_close(mixed.tokens[1, mixed.mask[1]], whole.tokens[0])
    torch.testing.assert_close(mixed.pooled[1], whole.pooled[0])
    assert torch.equal(mixed.pooled[0], mixed.pooled[2])


def test_the_command_measures_folders_of_joints(tmp_path, capsys):
    draw = np.random.default_rng(0)
    recorded = draw.normal(scale=400, size=(3, 25, 21, 3)).astype(np.float32)
    for folder in ("recorded", "made"):
        (tmp_path / folder).mkdir()
    for i, joints in enumerate(recorded):
        np.save(tmp_path / "recorded" / f"{i}.npy", joints)
        np.save(tmp_path / "made" / f"{i}_0.npy", joints[::8])
        np.save(tmp_path / "made" / f"{i}_1.npy", recorded[i - 1][::8])
    flags = ["--generated", str(tmp_path / "made"), "--reference", str(tmp_path / "recorded"), "--upsample", "8"]
    measure([*flags, "--pick", "best", "--output", str(tmp_path / "best.yaml")])
    best = dict(line.split(": ") for line in (tmp_path / "best.yaml").read_text().splitlines())
    pairs = [(torch.from_numpy(joints).double(), [rifke.upsampled(torch.from_numpy(each[::8]).double(), 8)
                                                  for each in (joints, recorded[i - 1])]) for i, joints in enumerate(recorded)]
    assert {name: float(value) for name, value in best.items()} == pytest.approx(ape_ave(pairs, "best"), abs=1e-5)
    measure([*flags, "--output", str(tmp_path / "avg.yaml")])
    each = [ape_ave([(reference, samples[k : k + 1]) for reference, samples in pairs]) for k in range(2)]
    assert f"APE_root: {(each[0]['APE_root'] + each[1]['APE_root']) / 2:.5f}" in (tmp_path / "avg.yaml").read_text()
    assert "mean joints" in capsys.readouterr().out
    with pytest.raises(OutputError, match=r"avg\.yaml is there already"):
        measure([*flags, "--output", str(tmp_path / "avg.yaml")])
    whole = (tmp_path / "made" / "2_1.npy").read_bytes()
    (tmp_path / "made" / "2_1.npy").write_bytes(whole[:500])
    with pytest.raises(ValueError, match=r"1 recordings were left out \(2\): the figures are those of the others"):
        measure(flags)
    np.save(tmp_path / "made" / "2_1.npy", recorded[0][:1])
    with pytest.raises(ValueError, match=r"left out \(2\)"):
        measure(flags)
    said = capsys.readouterr()
    assert "2_1.npy: 1 frames have no variance" in said.err and "nan" not in said.out
    (tmp_path / "made" / "1_0.npy").unlink()
    (tmp_path / "made" / "1_1.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds neither 1\.npy nor 1_0\.npy"):
        measure(flags)
