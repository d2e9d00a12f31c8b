"""python -m visualize.render_mesh: meshes and SMPL parameters of motions, under the names of published tools."""

import sys
from pathlib import Path

import numpy as np
import pytest

from data_loaders.motion_files import read_results, write_dict
from data_loaders.shown_motions import motion_shown
from protos.outputs import OutputError
from protos.pickles import read_plain_pickle
from protos.reading import FileError
from tests.synthetic import raise_hand, walk, write_run
from tests.synthetic_bodies import write_smpl
from visualize import render_mesh
from visualize.render_mesh import MeshOptions, run


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder without body models; with a run of two prompts and two repetitions, and one of two people."""
    monkeypatch.chdir(tmp_path)
    clips = [walk(12) + [i, 0, 0] for i in range(4)]
    write_run(tmp_path / "run", clips, ["walk", "bow"] * 2, num_samples=2)
    pair = np.stack([walk(12), raise_hand(12) + [0.0, 0.0, 1.5]])
    write_run(tmp_path / "pair", [pair, pair + [3.0, 0, 0]], ["greet"] * 2, fps=30.0, num_samples=1)
    return tmp_path


@pytest.fixture
def body(here):
    return write_smpl(here / "body_models/smpl/SMPL_NEUTRAL.npz")


def params(path: Path) -> dict:
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return read_plain_pickle(path, skip=file.tell()).item()


def obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces, by a reader of its own."""
    rows = [line.split() for line in path.read_text().splitlines()]
    vertices, faces = ([row[1:] for row in rows if row[0] == kind] for kind in "vf")
    assert len(vertices) + len(faces) == len(rows)
    return np.array(vertices, float), np.array(faces, int)


def test_a_video_of_a_run_gets_the_published_files_beside_it(here, body, monkeypatch):
    """As MDM's users write it: the video need not be there, its name says which motion."""
    monkeypatch.setattr(sys, "argv", ["render_mesh", "--input_path", "run/sample01_rep01.mp4", "--cuda", "False"])
    render_mesh.main()
    content = params(here / "run/sample01_rep01_smpl_params.npy")
    assert content["thetas"].shape == (24, 6, 12) and content["motion"].shape == (25, 6, 12)
    assert content["root_translation"].shape == (3, 12) and content["vertices"].shape == (144, 3, 12)
    assert content["text"] == "bow" and content["length"] == 12 and content["fps"] == 20
    np.testing.assert_array_equal(content["motion"][:24], content["thetas"])
    np.testing.assert_array_equal(content["motion"][24, :3], content["root_translation"])
    joints = read_results(here / "run").motions[3].joints[0]
    np.testing.assert_allclose(content["root_translation"].T, joints[:, 0], atol=0.002)
    around = content["vertices"].transpose(2, 0, 1).reshape(12, 24, 6, 3).mean(2)[:, :22]  # each joint's pyramid
    np.testing.assert_allclose(around, joints, atol=0.005)
    vertices, faces = obj(here / "run/sample01_rep01_obj/frame011.obj")
    np.testing.assert_allclose(vertices, content["vertices"][..., 11], atol=1e-5)
    np.testing.assert_array_equal(faces, content["faces"] + 1)
    assert not (here / "run/sample01_rep01_obj/frame012.obj").exists()
    assert np.load(here / "run/sample01_rep01_smpl.npz")["poses"].shape == (12, 156)


def test_two_people_keep_their_places(here, body):
    run(MeshOptions(input_path=here / "pair", repetition=1, device="cpu"))
    first, second = (params(here / f"pair/p{i}_1_smpl_params.npy") for i in (1, 2))
    joints = read_results(here / "pair").motions[1].joints
    for content, person in ((first, joints[0]), (second, joints[1])):
        np.testing.assert_allclose(content["root_translation"].T, person[:, 0], atol=0.002)
    vertices, _ = obj(here / "pair/objs_1/p2/p2_frame000.obj")
    np.testing.assert_allclose(vertices, second["vertices"][..., 0], atol=1e-5)
    assert first["fps"] == 30 and (here / "pair/objs_1/p1/p1_frame011.obj").is_file()


def test_two_files_of_the_published_tool_are_one_motion(here):
    for name, person in (("p1", walk(9)), ("p2", raise_hand(9))):
        write_dict(here / f"{name}.npy", {"motion": person.transpose(1, 2, 0)[None], "text": ["greet"], "lengths": np.array([9]),
                                          "num_samples": 1, "num_repititions": 1})  # fmt: skip
    motion, _ = motion_shown(here)
    assert motion.joints.shape == (2, 9, 22, 3) and motion.fps == 30 and motion.captions == ("greet",)


def test_a_joint_that_is_nowhere_is_told_of_the_file_that_holds_it(here):
    run_folder = here / "far"
    far = walk(9)
    far[4, 5] = 1e30
    write_run(run_folder, [far], ["walk"])
    with pytest.raises(FileError, match=r"far/motions.npz: a joint of frame 4"):
        motion_shown(run_folder / "prompt00_rep00.mp4")
    for name in ("p1", "p2"):
        write_dict(here / f"{name}.npy", {"motion": far.transpose(1, 2, 0)[None], "text": ["greet"], "lengths": np.array([9]),
                                          "num_samples": 1, "num_repititions": 1})  # fmt: skip
    with pytest.raises(FileError, match=r"p1.npy or p2.npy: a joint of frame 4"):
        motion_shown(here)


def test_two_people_of_a_file_and_one_of_another_do_not_meet_in_a_name(here, body):
    np.save(here / "a.npy", np.stack([walk(4), raise_hand(4) + [0.0, 0.0, 1.5]]))
    np.save(here / "a_p1.npy", walk(5))
    options = [MeshOptions(input_path=here / name, output_dir=here / "out", device="cpu", fitting_steps=0)
               for name in ("a.npy", "a_p1.npy")]  # fmt: skip
    both, one = ({path: path.read_bytes() for path in run(each) if path.is_file()} for each in options)
    assert len(both) == 4 and len(one) == 2 and all(path.read_bytes() == content for path, content in {**both, **one}.items())
    assert params(here / "out/a_smpl_params_p2.npy")["length"] == 4 and params(here / "out/a_p1_smpl_params.npy")["length"] == 5


def test_one_video_shows_the_meshes(here, body):
    (*_, video) = run(MeshOptions(input_path=here / "pair/motions.npz#0", video=True, device="cpu"))
    assert video.name == "prompt00_rep00_mesh.mp4" and video.stat().st_size > 2000
    assert (here / "pair/prompt00_rep00_smpl_params_p2.npy").is_file() and not list(here.rglob("*.obj"))


def test_without_a_body_model_the_free_body_is_written_and_said(here, caplog):
    (folder,) = run(MeshOptions(input_path=here / "run/prompt00_rep00.mp4"))
    assert "no body model found" in caplog.text and "protos/smpl_files.sh" in caplog.text
    vertices, faces = obj(folder / "frame000.obj")
    assert len(vertices) > 5000 and faces.min() == 1 and faces.max() == len(vertices)
    joints = read_results(here / "run").motions[0].joints[0, 0]
    assert abs(vertices[:, 1].min()) < 0.1 and np.abs(vertices.mean(0) - joints.mean(0)).max() < 0.3
    assert not list(here.rglob("*_smpl*"))


def test_a_second_run_replaces_its_own_files_and_nobody_elses(here, body):
    np.save(here / "take.npy", walk(5))
    options = MeshOptions(input_path=here / "take.npy", device="cpu", fitting_steps=0)
    run(options)
    np.save(here / "take.npy", walk(3))
    run(options)
    assert sorted(path.name for path in (here / "take_obj").iterdir()) == [f"frame{i:03d}.obj" for i in range(3)]
    (here / "other_obj").mkdir()
    (here / "other_obj/frame000.obj").write_text("mine")
    np.save(here / "other.npy", walk(3))
    with pytest.raises(OutputError, match="was not written by this program"):
        run(MeshOptions(input_path=here / "other.npy", device="cpu", fitting_steps=0))
    assert (here / "other_obj/frame000.obj").read_text() == "mine"


def test_the_files_of_a_run_are_not_taken_for_motions(here, body):
    from data_loaders.motion_files import motions_in

    run(MeshOptions(input_path=here / "run/prompt00_rep00.mp4", device="cpu", fitting_steps=0))
    found = motions_in(sorted(path for path in (here / "run").iterdir() if path.suffix in (".npy", ".npz")))
    assert len(found) == 4


def test_what_cannot_be_dressed_is_told_in_a_line(here, body):
    np.save(here / "kit.npy", np.random.default_rng(0).normal(size=(4, 21, 3)))
    np.save(here / "centimetres.npy", 100 * walk(4))
    np.save(here / "nowhere.npy", np.full((4, 22, 3), 1e30))
    (here / "empty").mkdir()
    for name, expected in (
        ("kit.npy", "21 joints of kit; bodies are fitted to the 22 of humanml"), ("absent.npy", "no such file"),
        ("run/prompt07_rep00.mp4", "its run has prompts 00 to 01"), ("run/prompt00_rep09.mp4", "holds 4 motions"),
        ("centimetres.npy", "metres"), ("nowhere.npy", "from the origin"),
        ("run/walk.mp4", "expected a video named prompt##_rep##"), ("empty", "holds no motions.npz"),
    ):
        with pytest.raises(FileError, match=expected):
            run(MeshOptions(input_path=here / name))
    with pytest.raises(FileError, match="no male body model"):
        run(MeshOptions(input_path=here / "run", gender="male"))
