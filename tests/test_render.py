"""The command that writes motions in other formats, as a user runs it."""

import numpy as np
import pytest

from data_loaders.bvh import read_bvh
from data_loaders.corpus import Motion
from data_loaders.joint_mapping import fitting_mapping, retarget
from data_loaders.motion_features import read_whole
from data_loaders.motion_files import write_results
from data_loaders.sources import Reading
from protos.reading import FileError
from tests.synthetic import bvh_text, raise_hand, walk, walk_in_a_curve
from tests.test_other_programs import kit_walk
from visualize import formats
from visualize.formats import FORMATS, FileSettings, formats_of, missing
from visualize.render import main
from visualize.writing import write_all, write_motion

WALK = walk_in_a_curve(40)


def written(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """A folder of motions of every kind that are files: joints, two people, a recording, a run; and one that is none."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    np.save(folder / "walk.npy", WALK)
    np.save(folder / "more" / "pair.npy", np.stack([WALK, WALK + np.float32(1)]))
    (folder / "take.bvh").write_text(bvh_text(walk(60, fps=30.0)))
    write_results(folder, [Motion(walk(30)[None].astype(np.float32), 20.0, captions=("a walk",)),
                           Motion(raise_hand(30)[None].astype(np.float32), 20.0, captions=("a hand",))], 2)  # fmt: skip
    return folder


def test_a_folder_becomes_files_of_each_motion_once_whatever_is_damaged(clips, capsys):
    (clips / "damaged.npy").write_bytes(b"nothing")
    main([str(clips), "--format", "bvh,glb,npz"])
    made = clips.parent / "outputs" / "clips"
    one = {f"{name}.{kind}" for name in ("walk", "take", "motions_0", "motions_1") for kind in ("bvh", "glb", "npz")}
    two = {"more_pair.glb", *(f"more_pair_p{i}.{kind}" for i in (1, 2) for kind in ("bvh", "npz"))}
    assert written(made) == one | two
    said = capsys.readouterr().err
    assert "damaged.npy: not a .npy array" in said and "1 of 6 motions are left out" in said
    main([str(clips / "motions.npz#1"), "--format", "png", "--output_dir", "hand"])
    assert written(clips.parent / "hand") == {"motions_1.png"}
    with pytest.raises(ValueError, match=r"damaged\.npy"):
        main([str(clips / "damaged.npy")])
    assert sorted(path.name for path in (clips.parent / "outputs").iterdir()) == ["clips"]


def test_a_motion_keeps_its_frame_rate_unless_it_is_told_another(clips):
    assert read_whole(clips / "take.bvh", Reading()).fps == 30.0
    for given in ((), ("--fps", "60")):
        main([str(clips / "take.bvh"), "--format", "bvh", "--output_dir", "here", *given])
    assert read_bvh(clips.parent / "here" / "take.bvh").fps == pytest.approx(30.0, rel=1e-3)
    clip = read_bvh(clips.parent / "here_2" / "take.bvh")
    assert clip.fps == pytest.approx(60.0, rel=1e-3) and len(clip.joints) == 119
    again = retarget(clip, fitting_mapping(clip))
    np.testing.assert_allclose(again[::2], read_whole(clips / "take.bvh", Reading()).joints[0], atol=5e-3)


def test_the_joints_of_an_npz_are_read_again(clips):
    (file,) = write_motion(clips / "again", Motion(WALK[None], 25.0), ("npz",))
    motion = read_whole(file, Reading())
    assert motion.fps == 25.0
    np.testing.assert_array_equal(motion.joints[0], WALK)


def test_a_root_bone_of_a_bvh_stands_on_the_floor_and_the_joints_where_they_were(clips):
    settings = FileSettings(skeleton="unreal", root_bone=True)
    (file,) = write_motion(clips / "rooted", Motion(WALK[None], 20.0), ("bvh",), settings)
    text = file.read_text()
    assert text.split("\n")[1] == "ROOT root" and "JOINT pelvis" in text
    clip = read_bvh(file)
    names = list(clip.names)
    np.testing.assert_allclose(clip.joints[:, 0] / 100, WALK[:, 0] * [1, 0, 1], atol=1e-4)
    for name, joint in (("pelvis", 0), ("hand_l", 20), ("ball_r", 11), ("head", 15)):
        np.testing.assert_allclose(clip.joints[:, names.index(name)] / 100, WALK[:, joint], atol=1e-4)


@pytest.mark.parametrize(("arguments", "words"), [
    (["--format", "mp4,obj"], "--format obj: expected some of mp4,gif"), (["--format", " , "], "names no format"),
    (["--fps", "0"], "fps"), (["--skeleton", "maya"], "skeleton"),
])  # fmt: skip
def test_what_cannot_be_asked_for_is_refused_before_anything_is_written(clips, arguments, words, capsys):
    with pytest.raises((ValueError, SystemExit)) as refused:
        main([str(clips / "walk.npy"), *arguments])
    assert words in str(refused.value) + capsys.readouterr().err
    assert not (clips.parent / "outputs").exists()


@pytest.mark.parametrize(("place", "words"), [
    ("nothing.npy", "no such file"), ("empty", "no motion file; expected .npy, .npz, .bvh"),
    ("notes.txt", "expected a motion file"), ("table.npy", "a table of features"), ("points.npy", "expected the 22 of humanml"),
])  # fmt: skip
def test_what_is_no_motion_is_named(clips, place, words):
    (clips / "empty").mkdir()
    (clips / "notes.txt").write_text("a note")
    np.save(clips / "table.npy", np.zeros((30, 263), np.float32))
    np.save(clips / "points.npy", np.zeros((30, 5, 3), np.float32))
    with pytest.raises((ValueError, OSError), match=words):
        main([str(clips / place)])


def test_a_format_whose_library_is_absent_names_the_line_that_brings_it(monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    for name, line in (("glb", r'pip install -e "\.\[export\]"'), ("fbx", "pip install bpy")):
        with pytest.raises(FileError, match=f"{name} files need .*{line}"):
            formats_of(FileSettings(format=name))
    assert [name for name in FORMATS if missing(name)] == ["glb", "vrma", "fbx"]


def test_many_processes_write_what_one_does(tmp_path):
    motions = [Motion(walk_in_a_curve(6, turn=i)[None], 20.0) for i in range(8)]
    for workers in (1, 2):
        jobs = [(tmp_path / str(workers) / f"{i}", motion) for i, motion in enumerate(motions)]
        files = list(write_all(jobs, ("bvh", "npz"), workers=workers))
        assert [[path.name for path in some] for some in files] == [[f"{i}.bvh", f"{i}.npz"] for i in range(8)]
    for name in written(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    with pytest.raises(FileError, match="not those of kit"):
        kit = Motion(np.zeros((1, 2, 21, 3)), 20.0, "kit")
        list(write_all([(tmp_path / str(i), kit) for i in range(8)], ("npz",), workers=2))


def test_the_skeleton_that_a_file_names_is_no_path(clips):
    (clips / "own.json").write_text("{}")
    np.savez(clips / "sly.npz", joints=WALK, skeleton=np.array(str(clips / "own.json")))
    with pytest.raises(FileError, match="expected those of humanml, kit"):
        read_whole(clips / "sly.npz", Reading())


def test_bodies_are_drawn_where_they_are_asked_for(clips):
    for name, flags in (("sticks", ()), ("bodies", ("--body",))):
        main([str(clips / "walk.npy"), "--format", "png,html", "--output_dir", name, *flags])
    for kind in ("png", "html"):
        sticks, bodies = ((clips.parent / name / f"walk.{kind}").read_bytes() for name in ("sticks", "bodies"))
        assert sticks != bodies


def test_two_motions_never_become_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "pair.npy", np.stack([WALK, WALK + np.float32(1)]))
    np.save(tmp_path / "in" / "Pair_p1.npy", WALK)
    main(["in", "--format", "bvh,glb", "--output_dir", "out"])
    assert written(tmp_path / "out") == {"Pair_p1.bvh", "Pair_p1.glb", "pair-2_p1.bvh", "pair-2_p2.bvh", "pair-2.glb"}


def test_of_several_motions_those_that_a_format_cannot_hold_are_named_and_left_out(clips, capsys):
    write_results(clips / "more", [Motion(kit_walk()[None].astype(np.float32), 12.5, "kit")], 1)
    main([str(clips / "more"), "--format", "npz", "--output_dir", "out"])
    assert written(clips.parent / "out") == {"pair_p1.npz", "pair_p2.npz"}
    assert "motions.npz#0: npz holds rotations of SMPL's 22 joints (humanml), not those of kit" in capsys.readouterr().err
    with pytest.raises(FileError, match="not those of kit"):
        main([str(clips / "more" / "motions.npz"), "--format", "npz", "--output_dir", "kit"])
    assert not (clips.parent / "kit").exists()


def test_no_motion_is_refused_as_a_flag_is(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--format", "bvh"])
    assert end.value.code == 2 and "name a motion file" in capsys.readouterr().err


@pytest.mark.parametrize(("metres", "words"), [
    (1e30, r"odd: a joint of frame 2 is 1e\+30 m from the origin"), (np.nan, "odd: NaN or infinity in frame 2"),
])  # fmt: skip
def test_joints_that_are_nowhere_become_no_file(tmp_path, metres, words):
    far = np.stack([WALK, WALK])
    far[1, 2, 5] = metres
    for name in FORMATS:
        with pytest.raises(FileError, match=words):
            write_motion(tmp_path / "odd", Motion(far, 20.0), (name,))
    assert not written(tmp_path)
