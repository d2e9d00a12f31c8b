"""Motions in files of other formats, read by programs that are not ours: every joint is where it was, within 5 mm.

three.js, pixiv's reader of VRM animations and Khronos's validator are looked for in tests/node/node_modules (npm install
--prefix tests/node), Chromium as in tests/browser.py, Pixar's USD and trimesh among the installed packages
(requirements-test.txt), Blender as `bpy` (pip install bpy).
"""

import base64
import http.server
import json
import shutil
import subprocess
import sys
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_loaders.corpus import Motion
from data_loaders.skeleton import load_skeleton
from tests.acted_motions import HUMANML
from tests.browser import Browser, find_chromium
from tests.synthetic import standing
from tests.turned_motions import MOTIONS, WALK, facing
from visualize.amass import write_npz
from visualize.formats import FileSettings
from visualize.joint_rotations import t_pose
from visualize.rigs import bone_names
from visualize.skinned_body import free_body, skinned
from visualize.usd import write_usda
from visualize.vrma import vrm_names, write_vrma
from visualize.writing import write_motion

CLOSE = 5e-3  # metres
FPS = 20.0
NODE = Path(__file__).parent / "node"
FRAMES = 40
needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules").is_dir(),
    reason="the readers of glTF are not installed: npm install --prefix tests/node",
)
needs_gltf = pytest.mark.skipif(find_spec("pygltflib") is None, reason='pygltflib is not installed: pip install -e ".[export]"')
needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed: see tests/browser.py")
needs_blender = pytest.mark.skipif(find_spec("bpy") is None, reason="Blender is not installed as a package: pip install bpy")
PAIR = np.stack([WALK, facing(WALK, 180) + [0.4, 0.0, 2.5]])
PEOPLE = {name: joints[None, :FRAMES] for name, joints in MOTIONS.items()} | {"pair": PAIR}


def kit_walk() -> np.ndarray:
    """Joints (3, 21, 3) in metres of somebody of KIT's skeleton who stands in T-pose and turns."""
    skeleton = load_skeleton("kit")
    joints = np.zeros((3, skeleton.num_joints, 3))
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        joints[:, joint] = joints[:, parent] + 0.2 * t_pose(skeleton)[joint]
    return np.stack([facing(pose, 100 * i) for i, pose in enumerate(joints)])


def furthest(found: dict[str, list], names: tuple[str, ...] | list[str], joints: np.ndarray) -> float:
    """Metres between the places of bones by their names and joints (T, J, 3), in the worst frame; of bones that have a name."""
    errors = [np.linalg.norm(np.array(found[name])[: len(joints)] - joints[:, joint], axis=-1).max()
              for joint, name in enumerate(names) if name]  # fmt: skip
    return float(max(errors))


# ------------------------------------------------------------------------------------------------------- glTF, read by three.js


@pytest.fixture(scope="module")
def read(tmp_path_factory) -> dict[str, dict]:
    """What node's readers find in files of all people: NAME.glb, NAME.vrma, and of the walk with other names and a root bone."""
    folder = tmp_path_factory.mktemp("gltf")
    files = []
    for name, people in PEOPLE.items():
        files += write_motion(folder / name, Motion(people, FPS, captions=("a <walk>",)), ("glb", "vrma"))
    for naming in ("smpl", "unity", "unreal"):
        settings = FileSettings(skeleton=naming, root_bone=True)
        files += write_motion(folder / naming, Motion(PEOPLE["spinning"], FPS), ("glb",), settings)
    files += write_motion(folder / "kit", Motion(kit_walk()[None], FPS, "kit"), ("glb", "vrma"))
    done = subprocess.run(["node", "read.mjs", str(FRAMES), str(FPS), *map(str, files)], cwd=NODE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return {Path(file).name: told for file, told in json.loads(done.stdout).items()}


@needs_node
@needs_gltf
def test_the_validator_has_nothing_to_say_against_any_scene(read):
    assert len(read) == 2 * len(PEOPLE) + 1 + 3 + 2
    assert {name: told["issues"] for name, told in read.items() if told["issues"]} == {}
    said = {code for told in read.values() for code in told["infos"]}
    assert said <= {"UNSUPPORTED_EXTENSION", "NODE_EMPTY"}  # of VRM the validator knows nothing; fingertips are empty


@needs_node
@needs_gltf
def test_the_bones_of_a_scene_are_where_the_joints_are(read):
    names = bone_names(HUMANML, "mixamo", prefix=True)
    assert names[0] == "mixamorig:Hips" and len(set(names)) == 22
    for name, people in PEOPLE.items():
        told = read[f"{name}.glb"]
        assert list(told["people"]) == [f"person{i + 1}" for i in range(len(people))]
        for found, joints in zip(told["people"].values(), people):
            assert furthest(found, names, joints) < CLOSE, name
        assert told["rest"] < 1e-4  # the body stands in T-pose where its bones do
    kit = load_skeleton("kit")
    assert furthest(read["kit.glb"]["people"]["person1"], bone_names(kit, "mixamo", prefix=True), kit_walk()) < CLOSE


@needs_node
@needs_gltf
@pytest.mark.parametrize(("naming", "root", "hips"), [("smpl", "root", "pelvis"), ("unity", "Root", "Hips"),
                                                      ("unreal", "root", "pelvis")])  # fmt: skip
def test_a_bone_on_the_floor_carries_the_way(read, naming, root, hips):
    found, joints = read[f"{naming}.glb"]["people"]["person1"], PEOPLE["spinning"][0]
    names = bone_names(HUMANML, naming)
    assert names[0] == hips and furthest(found, names, joints) < CLOSE
    place = np.array(found[root])[: len(joints)]
    np.testing.assert_allclose(place, joints[:, 0] * [1, 0, 1], atol=1e-5)


@needs_node
@needs_gltf
def test_an_avatar_of_vrm_moves_as_the_person_does(read):
    for name, people in PEOPLE.items():
        for i, joints in enumerate(people):
            told = read[f"{name}.vrma" if len(people) == 1 else f"{name}_p{i + 1}.vrma"]
            assert told["version"] == "1.0"
            assert furthest(told["people"]["avatar"], vrm_names(HUMANML), joints) < CLOSE, name
    assert furthest(read["kit.vrma"]["people"]["avatar"], vrm_names(load_skeleton("kit")), kit_walk()) < CLOSE


@needs_node
@needs_chromium
@needs_gltf
def test_an_avatar_of_vrm_moves_so_in_a_browser_too(tmp_path):
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(http.server.SimpleHTTPRequestHandler, directory=str(NODE)))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        with Browser(tmp_path / "profile") as browser:
            browser.send("Page.navigate", url=f"http://127.0.0.1:{served.server_port}/index.html")
            browser.rest(1)
            until = "new Promise(done => { const look = () => window.bones ? done(true) : setTimeout(look, 50); look(); })"
            assert browser.evaluate(until)
            for name, people in PEOPLE.items():
                for file, joints in zip(write_motion(tmp_path / name, Motion(people, FPS), ("vrma",)), people, strict=True):
                    sent = base64.b64encode(file.read_bytes()).decode()
                    told = browser.evaluate(f"bones('{sent}', {FRAMES}, {FPS})")
                    assert furthest(told["people"]["avatar"], vrm_names(HUMANML), joints) < CLOSE, name
            assert browser.errors == []
    finally:
        served.shutdown()


@needs_gltf
def test_trimesh_finds_a_body_in_t_pose_that_faces_ahead(tmp_path):
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed: pip install -r requirements-test.txt")
    (file,) = write_motion(tmp_path / "pair", Motion(PAIR, FPS), ("glb",))
    scene = trimesh.load(file, process=False)
    assert len(scene.geometry) == 2
    for mesh in scene.geometry.values():
        low, high = mesh.bounds
        height, span, depth = (high - low)[[1, 0, 2]]
        assert 1.5 < height < 2.0 and 0.8 * height < span < 1.2 * height and depth < 0.4 and abs(low[1]) < 0.03
        assert mesh.volume > 0.03  # faces look outwards
        feet = mesh.vertices[mesh.vertices[:, 1] < low[1] + 0.05]
        assert feet[:, 2].max() > -feet[:, 2].min()  # toes ahead of heels


# ------------------------------------------------------------------------------------------------------------- USD, by Pixar's


@pytest.mark.parametrize("root_bone", [False, True])
def test_usd_finds_the_joints_where_they_were(tmp_path, root_bone):
    usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed: pip install -r requirements-test.txt")
    from pxr import UsdGeom, UsdSkel, Vt

    for name, people in PEOPLE.items():
        stage = usd.Stage.Open(str(write_usda(tmp_path / f"{name}.usda", Motion(people, FPS), "unreal", root_bone)))
        assert (stage.GetTimeCodesPerSecond(), stage.GetEndTimeCode()) == (FPS, people.shape[1] - 1)
        assert (UsdGeom.GetStageUpAxis(stage), UsdGeom.GetStageMetersPerUnit(stage)) == ("Y", 1.0)
        for i, joints in enumerate(people):
            root = UsdSkel.Root(stage.GetPrimAtPath(f"/People/person{i + 1}"))
            cache = UsdSkel.Cache()
            assert cache.Populate(root, usd.PrimDefaultPredicate)
            query = cache.GetSkelQuery(UsdSkel.Skeleton(stage.GetPrimAtPath(f"/People/person{i + 1}/skeleton")))
            order = [str(path).split("/")[-1] for path in query.GetJointOrder()]
            assert query.HasBindPose() and query.HasRestPose()
            moves = [query.ComputeJointSkelTransforms(usd.TimeCode(t)) for t in range(len(joints))]
            found = np.array([[move.ExtractTranslation() for move in frame] for frame in moves])
            names = bone_names(HUMANML, "unreal")
            assert order[: 22 + root_bone] == (["root"] if root_bone else []) + list(names)
            assert "upperarm_twist_01_l" in order and len(order) == 30 + root_bone
            assert np.linalg.norm(found[:, [order.index(each) for each in names]] - joints, axis=-1).max() < CLOSE, name
            (bound,) = cache.ComputeSkelBindings(root, usd.PrimDefaultPredicate)
            (target,) = bound.GetSkinningTargets()
            points = target.GetPrim().GetAttribute("points").Get()
            low = np.array(points)[:, 1].min()
            assert target.HasJointInfluences() and abs(low) < 0.03
            moved = Vt.Vec3fArray(points)
            assert target.ComputeSkinnedPoints(query.ComputeSkinningTransforms(usd.TimeCode(0)), moved, usd.TimeCode(0))
            own = skinned(free_body(fine=True), Motion(people[i : i + 1], FPS))[0, 0]
            assert np.linalg.norm(np.array(moved) - own, axis=-1).max() < 1e-3, name


# ------------------------------------------------------------------------------------------------------------ npz, by hand


def test_the_rotations_of_an_npz_lead_to_its_joints_with_z_up(tmp_path):
    files = write_npz(tmp_path / "pair.npz", Motion(PAIR, FPS))
    assert [file.name for file in files] == ["pair_p1.npz", "pair_p2.npz"]
    for file, joints in zip(files, PAIR):
        content = np.load(file)
        assert content["poses"].shape == (len(joints), 156) and content["betas"].shape == (16,)
        assert (content["mocap_framerate"], str(content["gender"])) == (FPS, "neutral")
        local = [Rotation.from_rotvec(content["poses"][:, 3 * j : 3 * j + 3]) for j in range(22)]
        world, places = [local[0]], [content["trans"] + [-0.001795, -0.223333, 0.028219]]  # SMPL's mean pelvis at rest
        for joint, parent in enumerate(content["parents"][1:], start=1):
            places.append(places[parent] + world[parent].apply(content["offsets"][joint]))
            world.append(world[parent] * local[joint])
        upright = np.stack(places, axis=1)[..., [0, 2, 1]] * [-1, 1, 1]  # Z up to Y up
        assert np.linalg.norm(upright - joints, axis=-1).max() < CLOSE
        np.testing.assert_allclose(content["joints"], joints, atol=1e-6)


# --------------------------------------------------------------------------------------------------------------------- Blender

IN_BLENDER = """
import json, sys
import bpy
kind, file, frames, fps = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
bpy.ops.wm.read_factory_settings(use_empty=True)
render = bpy.context.scene.render
render.fps = round(fps)
if kind == "bvh":
    bpy.ops.import_anim.bvh(filepath=file, global_scale=0.01, update_scene_fps=False, use_fps_scale=False)
else:
    {"glb": bpy.ops.import_scene.gltf, "fbx": bpy.ops.import_scene.fbx, "usda": bpy.ops.wm.usd_import}[kind](filepath=file)
first = 1 if kind in ("bvh", "fbx") else 0
found = {}
for frame in range(frames):
    bpy.context.scene.frame_set(frame + first)
    for rig in (each for each in bpy.data.objects if each.type == "ARMATURE"):
        own = found.setdefault(rig.name, {})
        for bone in rig.pose.bones:
            own.setdefault(bone.name, []).append(list(rig.matrix_world @ bone.head))
with open(sys.argv[5], "w") as told:
    json.dump(found, told)
"""


def blenders(file: Path, frames: int) -> dict[str, dict[str, list]]:
    """Where Blender has the bones of each armature of a file, Y up."""
    told = file.with_suffix(".json")
    arguments = [file.suffix[1:], str(file), str(frames), str(FPS), str(told)]
    done = subprocess.run([sys.executable, "-c", IN_BLENDER, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    return {
        rig: {name: (np.array(places)[:, [0, 2, 1]] * [1, 1, -1]).tolist() for name, places in bones.items()}
        for rig, bones in json.loads(told.read_text()).items()
    }


@pytest.mark.slow
@needs_blender
@needs_gltf
@pytest.mark.parametrize("kind", ["glb", "fbx", "bvh", "usda"])
def test_blender_finds_two_people_where_they_were(tmp_path, kind):
    files = write_motion(tmp_path / "pair", Motion(PAIR, FPS), (kind,))
    names = bone_names(HUMANML, "mixamo", prefix=kind in ("glb", "fbx"))
    rigs = [rig for file in files for rig in blenders(file, FRAMES).values()]
    assert len(rigs) == 2
    for found, joints in zip(sorted(rigs, key=lambda rig: rig[names[0]][0][2]), PAIR):
        assert furthest(found, names, joints) < CLOSE


def test_a_skeleton_without_vrms_bones_is_named(tmp_path):
    from protos.reading import FileError

    own = tmp_path / "own.json"
    record = json.loads((Path(__file__).resolve().parents[1] / "data_loaders" / "skeletons" / "humanml.json").read_text())
    record.pop("unity_names")
    own.write_text(json.dumps(record | {"name": "own"}))
    with pytest.raises(FileError, match="the skeleton own does not tell: hips, spine, head"):
        write_vrma(tmp_path / "a.vrma", Motion(standing()[None, None], FPS, str(own)))
