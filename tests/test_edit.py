"""Edits of a motion: which joints of which frames change and which stay to the last bit; kept beginnings, ends, parts; files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.edit_frames import MARGIN, frame_order, joint_weights
from data_loaders.edit_grammar import parse_edits
from data_loaders.edit_masks import lower_body_joints
from data_loaders.humanml_features import mirror_joints
from data_loaders.motion_checks import bone_vectors
from data_loaders.motion_files import read_results
from data_loaders.pose_code_table import STRIDE
from data_loaders.pose_codes import indices_from_codes, token_codes
from data_loaders.pose_edits import apply_edits
from data_loaders.skeleton import load_skeleton
from model.capabilities import Edits, Inpaints, Request
from model.lsremgm import LSReMGM
from model.lsremgm_config import LSReMGMConfig
from model.registry import able
from protos.options import parse
from protos.reading import FileError
from sample.completion import FADE, completed_motions, completion_of
from sample.edit import EditOptions, run
from sample.edits import edited_motions, planned
from tests.synthetic import raise_hand, walk, walk_in_a_curve
from tests.test_edit_wishes import server  # noqa: F401
from tests.tiny_pgr2m import tiny_base, tiny_pg_tokenizer, tiny_refiner
from tests.tiny_tokens import CONTINUOUS, STATISTICS, saved
from visualize.edited_body import body_turns, carried_over, mirrored, turned_as
from visualize.joining import facings, in_order, led_to, placed, turned_about
from visualize.two_bones import unit

BODY, FPS, FRAMES = load_skeleton("humanml"), 20.0, 98
CURVE = walk_in_a_curve(FRAMES).astype(np.float64)
NAMES = {name: k for k, name in enumerate(BODY.joint_names)}
ARM, LEG = (
    [NAMES[f"left_{name}"] for name in names] for names in (("elbow", "wrist"), ("knee", "ankle", "foot"))
)
SMALL = dict(latent_dim=16, ff_size=16, num_layers=1, num_heads=2, diffusion_steps=4, dropout=0.0, arch="trans_dec",
             text_encoder="minilm", text_dim=384, text_memory="tokens", mask_frames=True, features=CONTINUOUS)  # fmt: skip


@pytest.fixture(scope="module")
def refiner():
    return tiny_refiner()


@pytest.fixture(scope="module")
def denoising():
    """An untrained diffusion whose motions stay near a metre."""
    torch.manual_seed(0)
    return LSReMGM(LSReMGMConfig(**SMALL), replace(STATISTICS, std=np.full(263, 0.02, np.float32))).eval()


def lengths(joints):
    return np.linalg.norm(bone_vectors(joints, BODY), axis=-1)


def edited(model, text, joints=CURVE, seed=1):
    plan = planned(joints, model.features, text, "clip")
    (made,) = edited_motions(model, plan, [Request("a person walks", len(joints), seed)])
    return made.joints[0]


def inner(joints, turns):
    """Joints about the pelvis in the body's frame."""
    return np.einsum("tij,tnj->tni", turns, joints - joints[:, :1])


# ------------------------------------------------------------------------------------------------------------------------- frames


def test_an_edit_acts_on_its_joints_in_its_frames_and_fades_beyond():
    weights = joint_weights(parse_edits("raise the left arm between 1s and 2s; bend the right knee after 3s"), FRAMES, FPS,
                            BODY.joint_names)
    assert (weights[20:40, ARM] == 1).all() and (weights[60:, NAMES["right_ankle"]] == 1).all()  # 98 are no whole tokens
    assert (weights[: 20 - MARGIN, ARM] == 0).all() and (weights[40 + MARGIN :, ARM] == 0).all()
    fade = weights[40 : 40 + MARGIN, ARM[0]]
    assert (np.diff(fade) < 0).all() and 0 < fade[-1] < 0.1
    others = [k for k, name in enumerate(BODY.joint_names) if k not in ARM and not name.startswith("right_")]
    assert not weights[:, others].any()


def test_kept_parts_have_no_weight_and_legs_follow_the_body():
    weights = joint_weights(parse_edits("mirror; keep the left arm until 2s"), FRAMES, FPS, BODY.joint_names)
    assert not weights[:40, ARM].any() and (weights[40 + MARGIN :] == 1).all() and (weights[:, LEG] == 1).all()
    crouch = joint_weights(parse_edits("crouch"), FRAMES, FPS, BODY.joint_names)
    assert not crouch[:, LEG].any() and (crouch[:, [0, *ARM]] == 1).all()


@pytest.mark.parametrize("text", ["slower by 2", "2 times faster", "repeat 3 times between 1s and 2s", "slower by 2 until 2s",
                                  "repeat twice until 1s; slower by 2 until 1s", "raise the left arm"])  # fmt: skip
def test_frames_come_in_the_order_of_their_tokens(text):
    edits = parse_edits(text)
    source = apply_edits(token_codes(CURVE[:96]), edits, FPS).source.numpy()
    order = frame_order(edits, 96, FPS)
    assert len(order) == STRIDE * len(source) and order.max() <= 95
    assert (np.abs(order[::STRIDE] / STRIDE - source) < 1).all()
    if "slower" in text:
        assert (np.abs(np.diff(order)) > 0.4).mean() > 0.9  # on and on, no frame is held


# --------------------------------------------------------------------------------------------------------------------------- body


def test_what_two_motions_do_alike_changes_nothing_and_what_one_does_otherwise_is_done():
    ones = np.ones(CURVE.shape[:2])
    assert np.array_equal(carried_over(CURVE, walk(FRAMES), walk(FRAMES), ones, BODY), CURVE)
    arms = joint_weights(parse_edits("raise the left arm"), FRAMES, FPS, BODY.joint_names)
    before, after = np.repeat(raise_hand(FRAMES)[:1], FRAMES, 0), np.repeat(raise_hand(FRAMES)[30:31], FRAMES, 0)
    made = carried_over(CURVE, before, after, arms, BODY)
    others = [k for k in range(22) if k not in ARM]
    assert np.array_equal(made[:, others], CURVE[:, others])
    np.testing.assert_allclose(lengths(made), lengths(CURVE), atol=1e-9)
    raised = after[0, ARM[1], 1] - before[0, ARM[1], 1]
    assert (made[:, ARM[1], 1] - CURVE[:, ARM[1], 1]).mean() > 0.6 * raised > 0.1


def test_a_vector_turns_by_a_share_of_the_shortest_turn():
    a, b = np.eye(3)[0], np.eye(3)[1]
    np.testing.assert_allclose(turned_as(a, a, b, np.array(0.5)), np.array([1, 1, 0]) / 2**0.5, atol=1e-9)
    np.testing.assert_allclose(turned_as(a, a, -a, np.array(1.0)), -a, atol=1e-9)
    assert np.linalg.norm(turned_as(a, a, -a, np.array(0.5))) == pytest.approx(1)


def test_bent_knees_lower_the_body_and_a_lower_body_bends_the_knees():
    """Feet stay on the floor either way, and bones keep their lengths."""
    stand, bent = np.repeat(CURVE[:1], FRAMES, 0), np.repeat(CURVE[:1], FRAMES, 0)
    for side in ("left", "right"):
        knee, ankle, foot = (NAMES[f"{side}_{name}"] for name in ("knee", "ankle", "foot"))
        for joint, angle in ((knee, -0.8), (ankle, 0.8)):
            below = [each for each in (knee, ankle, foot) if each >= joint]
            bent[:, below] = _pitched(bent[:, below], bent[:, [BODY.parents[joint]]], angle, body_turns(stand)[0, 0])
    weights = joint_weights(parse_edits("bend both knees"), FRAMES, FPS, BODY.joint_names)
    made = carried_over(stand, stand, bent, weights, BODY)
    feet = list(BODY.feet)
    assert made[0, 0, 1] < stand[0, 0, 1] - 0.05
    assert made[0, feet, 1].min() == pytest.approx(stand[0, feet, 1].min(), abs=1e-6)
    np.testing.assert_allclose(lengths(made), lengths(stand), atol=1e-6)
    low = stand - [0, 0.2, 0]
    down = carried_over(stand, stand, low, joint_weights(parse_edits("crouch"), FRAMES, FPS, BODY.joint_names), BODY)
    np.testing.assert_allclose(down[:, feet], stand[:, feet], atol=1e-6)
    np.testing.assert_allclose(down[:, 0], low[:, 0], atol=1e-6)
    np.testing.assert_allclose(lengths(down), lengths(stand), atol=1e-6)


def _pitched(joints, about, angle, axis):
    around = joints - about
    cos, along = np.cos(angle), axis * (around @ axis)[..., None]
    return about + cos * around + np.sin(angle) * np.cross(axis, around) + (1 - cos) * along


def test_a_mirrored_motion_is_one_of_the_other_side_and_twice_is_nothing():
    whole = np.ones(CURVE.shape[:2])
    made = mirrored(CURVE, whole, BODY)
    np.testing.assert_allclose(mirrored(made, whole, BODY), CURVE, atol=1e-9)
    other = mirror_joints(torch.from_numpy(CURVE), BODY).numpy()
    np.testing.assert_allclose(made, placed(other, other[0], CURVE[0]), atol=1e-9)
    part = joint_weights(parse_edits("mirror between 1s and 2s"), FRAMES, FPS, BODY.joint_names)
    some = mirrored(CURVE, part, BODY)
    assert np.array_equal(some[: 20 - MARGIN], CURVE[: 20 - MARGIN]) and np.array_equal(some[:, 0, [0, 2]], CURVE[:, 0, [0, 2]])
    poses = inner(CURVE, body_turns(CURVE))[20:40]
    expected = mirror_joints(torch.from_numpy(poses), BODY).numpy()
    np.testing.assert_allclose(inner(some, body_turns(CURVE))[20:40], expected, atol=0.02)  # sides are nearly of one length
    np.testing.assert_allclose(lengths(some), lengths(CURVE), atol=1e-6)


def test_a_repeated_stretch_goes_on_from_where_the_body_is():
    order = frame_order(parse_edits("repeat 3 times between 1s and 2s"), FRAMES, FPS)
    made = in_order(CURVE, order, BODY, MARGIN)
    step = np.linalg.norm(np.diff(CURVE[:, 0], axis=0), axis=-1).max()
    assert len(made) == FRAMES + 40 and np.linalg.norm(np.diff(made[:, 0], axis=0), axis=-1).max() < 1.5 * step
    assert np.abs(np.diff(np.unwrap(facings(made)))).max() < 0.2 and np.abs(lengths(made) - lengths(CURVE).mean(0)).max() < 1e-3
    np.testing.assert_allclose(made[:40], CURVE[:40], atol=1e-9)
    slow = in_order(CURVE, frame_order(parse_edits("slower by 2"), FRAMES, FPS), BODY, MARGIN)
    np.testing.assert_allclose(slow[::2], CURVE, atol=1e-9)


def test_a_way_leads_to_a_pose_elsewhere():
    there = placed(CURVE[-1:], CURVE[-1], turned_about(CURVE[-1:] + [0.5, 0.0, -0.3], 0.7)[0])[0]
    made = led_to(CURVE, 30, there)
    assert np.allclose(made[:30], CURVE[:30]) and np.allclose(made[-1], there, atol=1e-9)
    np.testing.assert_allclose(lengths(made), lengths(CURVE), atol=1e-9)
    assert np.linalg.norm(np.diff(made[:, 0], axis=0), axis=-1).max() < 0.2


# -------------------------------------------------------------------------------------------------------------------------- edits


@pytest.mark.parametrize("make", [tiny_pg_tokenizer, tiny_base, tiny_refiner])
def test_only_named_joints_change_and_only_in_their_frames(make):
    model = make()
    made = edited(model, "raise the left arm between 1s and 2s")
    given = CURVE.astype(np.float32)
    others = [k for k in range(22) if k not in ARM]
    assert np.array_equal(made[:, others], given[:, others])
    assert np.array_equal(made[: 20 - MARGIN], given[: 20 - MARGIN]) and np.array_equal(made[40 + MARGIN :], given[40 + MARGIN :])
    assert np.abs(made[20:40, ARM] - given[20:40, ARM]).max() > 0.01
    np.testing.assert_allclose(lengths(made), lengths(given), atol=1e-5)


def test_a_part_that_is_put_somewhere_points_as_the_model_has_it():
    """However badly the model knows the pose that was there."""
    model, text = tiny_pg_tokenizer(), "put the left hand above the left shoulder between 1s and 2s"
    plan = planned(CURVE, CONTINUOUS, text, "clip")
    (rows,) = model.realise([indices_from_codes(plan.after.codes)], [Request("", FRAMES)])
    told, made = CONTINUOUS.joints(rows).double().numpy()[20:40], edited(model, text).astype(np.float64)[20:40]
    bones = [unit(bone_vectors(inner(each, body_turns(each)), BODY))[:, ARM] for each in (told, made)]
    np.testing.assert_allclose(*bones, atol=1e-3)


def test_the_systems_that_tell_poses_edit():
    assert able(Edits) == ("pg_tokenizer", "pg_base", "pg_refine")


def test_an_edit_does_not_depend_on_where_the_motion_stands(refiner):
    text = "bend both knees; lean forward between 1s and 3s; mirror in the last second; slower"
    here, there = edited(refiner, text), edited(refiner, text, turned_about(CURVE, 2.0) + [3.0, 0.0, -1.0])
    np.testing.assert_allclose(turned_about(here.astype(np.float64), 2.0) + [3.0, 0.0, -1.0], there, atol=2e-3)
    assert len(here) == round(1.5 * FRAMES) and np.array_equal(here, edited(refiner, text))


def test_paces_and_repetitions_ask_no_model():
    model = tiny_pg_tokenizer()
    model.realise = None
    assert len(edited(model, "slower by 2; repeat in the first second")) == 2 * FRAMES + 40


def test_long_motions_are_edited_piece_by_piece(refiner):
    long = walk_in_a_curve(260)
    made = edited(refiner, "raise the left arm after 11s", long)
    assert np.array_equal(made[: 220 - MARGIN], long[: 220 - MARGIN].astype(np.float32))
    assert not np.allclose(made[230:], long[230:])


def test_what_becomes_of_codes_is_told(refiner):
    plan = planned(CURVE, refiner.features, "put the left hand above the left shoulder; slower by 2", "clip")
    assert "left hand below left shoulder -> left hand above left shoulder" in plan.told() and "4.8 s become 9.6 s" in plan.told()
    twice = planned(edited(refiner, "mirror; mirror"), refiner.features, "mirror; mirror", "clip")
    assert twice.told() == "no code changes: the motion does so already" and twice.obeyed(twice.motion, refiner.features) == ""
    made = replace(plan.motion, joints=in_order(CURVE, frame_order(plan.edits, FRAMES, FPS), BODY, MARGIN)[None])
    assert int(plan.obeyed(made, refiner.features).split()[0]) < 50


# --------------------------------------------------------------------------------------------------------------------- completion


@pytest.mark.parametrize("what", ["prefix", "suffix", "in_between"])
@pytest.mark.parametrize("keeps", [True, False], ids=["in-painted", "blended"])
def test_kept_frames_are_the_given_ones_in_their_world(what, keeps, denoising):
    model = denoising if keeps else tiny_base()
    assert (isinstance(model, Inpaints) and model.inpaints()) == keeps
    given = (turned_about(CURVE, 1.0) + [2.0, 0.1, 0.0])[:80] * 1.1  # another size, place and heading than the codec's
    completion = completion_of(given, model.features, 80, what)
    first, second = (completed_motions(model, completion, [Request("a person walks", 80, seed)])[0].joints[0] for seed in (1, 2))
    kept = completion.frames
    assert {"prefix": kept[:20], "suffix": kept[60:], "in_between": kept[[*range(20), *range(60, 80)]]}[what].all()
    np.testing.assert_allclose(first[kept], given[kept], atol=1e-5)
    assert not np.allclose(first[~kept][FADE:-FADE], second[~kept][FADE:-FADE], atol=1e-3)
    np.testing.assert_allclose(lengths(first[~kept]), lengths(given)[~kept], rtol=0.02)
    if what == "in_between":
        assert np.linalg.norm(first[60, 0, [0, 2]] - first[59, 0, [0, 2]]) < 0.5


def test_kept_parts_are_the_given_ones(denoising):
    legs = lower_body_joints(BODY)
    uppers = [0, *(k for k in range(22) if k not in legs)]
    made = {}
    for what in ("lower_body", "root", "upper_body"):
        completion = completion_of(CURVE[:60], CONTINUOUS, 196, what)
        made[what] = completed_motions(denoising, completion, [Request("a person waves", 60, 3)])[0].joints[0]
    given = CURVE[:60]
    np.testing.assert_allclose(made["lower_body"][:, legs], given[:, legs], atol=1e-5)
    np.testing.assert_allclose(made["root"][:, 0], given[:, 0], atol=1e-5)

    def apart(joints):
        return np.linalg.norm(joints[:, uppers, None] - joints[:, None, uppers], axis=-1)

    np.testing.assert_allclose(apart(made["upper_body"]), apart(given), atol=0.02)
    assert not np.allclose(made["root"][:, 1:], given[:, 1:], atol=0.05)
    assert not np.allclose(apart(made["lower_body"]), apart(given), atol=0.05)


# ------------------------------------------------------------------------------------------------------------------------ command


@pytest.fixture(scope="module")
def place(tmp_path_factory, refiner, denoising):
    folder = tmp_path_factory.mktemp("edit")
    np.save(folder / "clip.npy", CURVE.astype(np.float32))
    np.save(folder / "other.npy", CURVE[:, :21].astype(np.float32))
    np.save(folder / "short.npy", CURVE[:3].astype(np.float32))
    saved(folder / "poses", refiner)
    saved(folder / "denoising", denoising)
    return folder


def command(place, words, *more):
    run(parse(EditOptions, [*(str(place / each) if each.endswith(".npy") else each for each in words), "--device", "cpu", *more]))


def test_the_command_leaves_the_files_of_a_run_and_before_beside_after(place, tmp_path, capsys):
    words = ["clip.npy", "--edit", "raise the left arm between 1s and 2s", "--model_path", str(place / "poses")]
    command(place, words, "--output_dir", str(tmp_path / "run"))
    out, folder = capsys.readouterr().out, tmp_path / "run"
    assert "left hand" in out and " -> " in out and "of the changed codes" in out
    for name in ("motions.npz", "prompt00_rep00.mp4", "prompt00.html", "before_after.mp4", "before_after.html", "edit.txt"):
        assert (folder / name).stat().st_size > 0, name
    said = (folder / "edit.txt").read_text()
    assert all(line.strip() in said for line in out.splitlines())
    np.testing.assert_array_equal(np.load(folder / "joints" / "before.npy"), CURVE.astype(np.float32))
    (motion,) = read_results(folder).motions
    np.testing.assert_array_equal(np.load(folder / "joints" / "prompt00_rep00.npy"), motion.joints[0])
    assert motion.captions == ("raise the left arm between 1s and 2s",)


def test_the_command_keeps_what_it_is_told_to(place, tmp_path):
    words = ["clip.npy", "--keep", "in_between", "--text_prompt", "a person walks", "--model_path", str(place / "denoising")]
    command(place, words, "--output_dir", str(tmp_path / "run"), "--no_video", "--num_repetitions", "2")
    motions = read_results(tmp_path / "run").motions
    assert len(motions) == 2 and not (tmp_path / "run" / "before_after.mp4").exists()
    for motion in motions:
        np.testing.assert_allclose(motion.joints[0, :24], CURVE[:24], atol=1e-5)
        np.testing.assert_allclose(motion.joints[0, 74:], CURVE[74:], atol=1e-5)


def test_a_wish_is_put_into_edits(place, tmp_path, server, capsys):  # noqa: F811
    server.answers = ["raise the left arm; slower"]
    words = ["clip.npy", "--wish", "wave slowly", "--endpoint", server.endpoint.url, "--endpoint_model", "some-model"]
    command(place, words, "--model_path", str(place / "poses"), "--output_dir", str(tmp_path / "run"), "--no_video")
    assert "edits: raise the left arm; slower" in capsys.readouterr().out
    assert "4.9 seconds" in server.asked[0][1]["messages"][1]["content"]


@pytest.mark.parametrize("words, said", [
    (["clip.npy", "--edit", "raise the left wing"], "parts are left or right arm"),
    (["clip.npy", "--edit", "wiggle the left arm"], "is not understood"),
    (["clip.npy", "--edit", "raise the left arm after 9s"], "the clip has 4.8 seconds"),
    (["clip.npy", "--edit", "raise the left arm; lower the left arm"], "contradict"),
    (["other.npy", "--edit", "mirror"], "21 joints, expected the 22 of humanml"),
    (["short.npy", "--edit", "mirror"], "3 frames at 20 per second, an edit needs 4"),
    (["clip.npy", "--edit", "mirror", "--model_path", "denoising"], "holds a model of kind lsremgm, needed is pg_tokenizer"),
    (["clip.npy", "--edit", "mirror", "--sampler", "ddim", "--model_path", "poses"], "sampler"),
    (["clip.npy", "--keep", "prefix", "--model_path", "denoising"], "give --text_prompt"),
    (["clip.npy", "--keep", "prefix", "--prefix_end", "1", "--text_prompt", "walk", "--model_path", "denoising"], "all of 98"),
    (["absent.npy", "--edit", "mirror"], "no such file"),
])  # fmt: skip
def test_what_cannot_be_edited_is_refused_in_one_line_and_leaves_no_folder(place, tmp_path, words, said):
    words = [str(place / each) if each in ("denoising", "poses") else each for each in words]
    if "--model_path" not in words:
        words += ["--model_path", str(place / "poses")]
    if "--sampler" in words:
        words[words.index("mirror")] = "raise the left arm"
    with pytest.raises((ValueError, FileError)) as error:
        command(place, words, "--output_dir", str(tmp_path / "run"), "--no_video")
    assert said in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("words, said", [([], "not none"), (["--edit", "mirror", "--keep", "prefix"], "edit and keep"),
                                         (["--wish", "wave"], "give --endpoint")])  # fmt: skip
def test_one_way_to_edit_is_asked_for(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        parse(EditOptions, ["clip.npy", *words])
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_a_motion_is_edited_on_the_page(place, tmp_path):
    from sample.demo_maker import Maker, motion_checkpoints

    saved(tmp_path / "poses", tiny_refiner())
    name = (tmp_path / "poses").as_posix()
    maker = Maker(motion_checkpoints([tmp_path]), "cpu", max_upload=1.0)
    assert name in maker.editing() and "starter" not in maker.editing()
    motions, lines = maker.edit(place / "clip.npy", "raise the left arm", 7, 1, name)
    assert len(motions) == 2 and "left hand" in lines and not np.allclose(motions[0].joints, motions[1].joints, atol=1e-3)
    for edits, checkpoint, said in (("raise the left wing", name, "wing"), ("mirror", "starter", "cannot be edited"),
                                    ("x" * 999, name, "at most 300")):
        with pytest.raises(ValueError, match=said):
            maker.edit(place / "clip.npy", edits, 7, 1, checkpoint)
    maker.read_actor.close()
    pytest.importorskip("gradio", reason="the page needs gradio: pip install gradio (the extra [demo])")
    from sample.demo_app import build

    labels = {one["props"].get("label") for one in build(None, maker, tmp_path).get_config_file()["components"]}
    assert {"Edit", "What becomes of which part, when?"} <= labels


@pytest.mark.parametrize("asked, words", [
    ("crouch \udcff", "is no letter"), ("crouch \x1b[31m", "is no letter"),
    ("; ".join(["repeat 20 times"] * 6), "more than 2,000,000 frames would come of it: ask for fewer rounds"),
])  # fmt: skip
def test_edits_that_cannot_be_written_or_held_are_refused(asked, words):
    with pytest.raises(ValueError, match=words):
        planned(CURVE, CONTINUOUS, asked, "motion")
