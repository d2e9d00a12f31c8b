"""What stands behind the buttons of the demo: searches, motions, and what visitors cannot ask for."""

import html
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data_loaders.corpus import Corpus
from protos.reading import FileError
from sample.demo_maker import Maker, UploadReading, motion_checkpoints, write_downloads
from sample.demo_pages import hits_page, player
from sample.demo_service import LONGEST_PROMPT, Finder, open_search, told
from sample.gallery import Gallery
from sample.generation import STARTER, generate
from tests.pairs import pair_corpus
from tests.synthetic import bvh_text, walk
from tests.tiny_people import tiny_in2in, tiny_reaction
from tests.tiny_retrieval import TEXT, encode_folder, features_of, saved_tmr, write_motions

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "a person <img src=x onerror=alert(1)> \"walks\" ${7*7} {{#if x}} '</iframe>"
OF_TWO = [".mp4", ".html", ".bvh", ".bvh", ".glb", ".vrma", ".vrma", ".npy"]


def test_a_text_finds_what_the_command_finds_and_mirrored_twins_are_one(search):
    found = search.by_text(TEXT, 12)
    expected = search.finder.motions(search.space.encode_text([TEXT])[0], 12)
    assert found.hits == expected and len(found.motions) == len(found.hits) > 2
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    names = [hit.name.removesuffix("@mirrored") for hit in found.hits]
    assert len(set(names)) == len(names) < len(search.gallery)
    for hit, motion in zip(found.hits, found.motions):
        assert motion.joints.shape[1] / motion.fps == pytest.approx(hit.end - hit.start, abs=0.06)


def test_a_split_is_searched_alone(search, small_dataset):
    assert set(search.splits) <= {"train", "val", "test"} and len(search.splits) > 1
    for split in search.splits:
        names = set((small_dataset / f"{split}.txt").read_text().split())
        assert {hit.name for hit in search.by_text(TEXT, 12, split).hits} <= names


def test_a_motion_is_found_by_its_own_file_of_any_kind(search, tmp_path):
    row = 0
    clip, joints = search.gallery.clips[row], search.by_text(TEXT, 1).motions[0].joints[0]
    features = search_features(search, row)
    np.save(tmp_path / "features.npy", features)
    found = search.by_file(tmp_path / "features.npy", 3)
    assert found.hits[0].name.removesuffix("@mirrored") == clip.name.removesuffix("@mirrored") and found.hits[0].score > 0.99
    np.save(tmp_path / "joints.npy", joints)
    (tmp_path / "take.BVH").write_text(bvh_text(walk(90, fps=30.0)))
    for name in ("joints.npy", "take.BVH"):
        found = search.by_file(tmp_path / name, 3)
        assert len(found.hits) == 3 and found.own is not None
    assert found.own.joints.shape[1] / found.own.fps == pytest.approx(3, abs=0.2)


def search_features(search: Finder, row: int) -> np.ndarray:
    from data_loaders.corpus import Corpus

    clip = search.gallery.clips[row]
    data = Corpus.open(clip.source)
    return np.array(data[data.position(clip.name)])


def test_only_a_part_of_a_long_file_is_searched_by(search, tmp_path):
    np.save(tmp_path / "long.npy", features_of(walk(700)))
    found = search.by_file(tmp_path / "long.npy", 1, start=5.0)
    np.save(tmp_path / "part.npy", features_of(walk(700))[100 : 100 + search.space.longest_trained])
    assert search.by_file(tmp_path / "part.npy", 1).hits == found.hits
    with pytest.raises(ValueError, match=r"lasts 35\.0 s: it cannot start at 60 s"):
        search.by_file(tmp_path / "long.npy", 1, start=60.0)


@pytest.mark.parametrize("name, content, more, message", [
    ("a.npz", b"PK", {}, "expected a motion file, .npy or .bvh"),
    ("a.npy", b"no array", {}, "a.npy: not a .npy array"),
    ("a.npy", walk(40)[:, :21], {}, "21 joints, expected the 22"),
    ("a.npy", np.zeros((40, 251)), {}, "expected .frames, 263."),
    ("a.npy", walk(40) * np.nan, {}, "NaN or infinity"),
    ("a.npy", np.zeros((2000, 22, 3)), {}, "larger than 1 MB"),
    ("a.npy", np.zeros((2000, 3, 3)), {"fps": 1.0}, "lasts 2000 s at 1 frames per second"),
    ("a.npy", walk(40), {"fps": float("nan")}, "frames per second: expected a number from 1 to 1000"),
    ("a.npy", np.array("text"), {}, "a.npy: holds <U4 values"),
    ("a.bvh", b"HIERARCHY\nnonsense", {}, "a.bvh"),
    ("a.bvh", bvh_text(walk(20)).replace("UpperLeg_L", "Thigh7").encode(), {}, "not named as in any skeleton known"),
    ("a.bvh", bvh_text(walk(20)).encode(), {"skeleton": "../../etc"}, "skeleton: expected one of"),
    ("a.bvh", bvh_text(walk(20), fps=1e-6).encode(), {}, "at most 900 s|Frame Time"),
    ("a.npy", walk(40), {"split": "secret"}, "no split of that name"),
    ("a.npy", walk(40), {"count": 10**6}, "hits: expected a whole number from 1 to 12"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_in_one_line(search, tmp_path, name, content, more, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises((ValueError, OSError), match=message) as refused:
        search.by_file(path, **more)
    line = told(refused.value)
    assert "\n" not in line and str(tmp_path) not in line


def test_pickles_are_never_loaded(search, tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="not a results file"):
        search.by_file(tmp_path / "a.npy")


def test_a_seed_gives_the_motions_that_the_command_gives(maker, tmp_path):
    from protos.randomness import derive_seed

    made = maker.make(TEXT, 1.0, 7, 2)
    seeds = [derive_seed(7, "sample", 0, repetition) for repetition in range(2)]
    expected = generate([TEXT] * 2, [20] * 2, STARTER, seeds, device="cpu")
    for mine, theirs in zip(made, expected):
        np.testing.assert_allclose(mine.joints, theirs.joints, atol=1e-4)
    files = write_downloads(tmp_path, made, 7)
    name = "a-person-walks-forward_seed7"
    ends = [".mp4", ".html", *(f"_{i}.{each}" for i in (1, 2) for each in ("bvh", "glb", "vrma")), "_1.npy", "_2.npy"]
    assert [path.name for path in files] == [name + end for end in ends]
    np.testing.assert_array_equal(np.load(files[-1]), made[1].joints[0])
    assert files[0].read_bytes()[4:8] == b"ftyp"
    assert not np.allclose(made[0].joints, maker.make(TEXT, 1.0, 7, 1, guidance=6.0)[0].joints, atol=1e-3)


def test_a_model_without_guidance_is_not_given_any(maker):
    assert maker.checkpoints["tiny"].guidance is None
    (motion,) = maker.make(TEXT, 1.0, 1, 1, 4.0, "tiny")
    assert motion.joints.shape == (1, 20, 22, 3)


def test_two_people_are_made_of_a_text_about_both_and_texts_about_each(maker, tmp_path):
    tiny_in2in(tmp_path / "two", Corpus(pair_corpus(tmp_path / "pairs")))
    pairs = Maker(motion_checkpoints([tmp_path]), "cpu")
    name = (tmp_path / "two").as_posix()
    assert list(pairs.of_persons(2)) == [name] and "starter" in pairs.of_persons(1)
    (alone,), (told,) = (pairs.make("two people greet", 1.0, 7, 1, None, name, each)
                         for each in (("", " "), ("a person waves", "a person bows")))  # fmt: skip
    assert alone.joints.shape == (2, 30, 22, 3) and not np.allclose(alone.joints, told.joints, atol=1e-3)
    assert [path.suffix for path in write_downloads(tmp_path, [told], 7)] == OF_TWO
    with pytest.raises(ValueError, match="what each of the two does, or neither"):
        pairs.make("two people greet", 1.0, 7, 1, None, name, ("a person waves", ""))
    pytest.importorskip("gradio", reason="the page needs gradio: pip install gradio (the extra [demo])")
    from sample.demo_app import build

    labels = {one["props"].get("label") for one in build(None, pairs, tmp_path).get_config_file()["components"]}
    assert {"Generate", "Two people", "What do the two do together?", "And person 2 (may stay empty)"} <= labels
    assert "Two people" not in {
        one["props"].get("label") for one in build(None, maker, tmp_path).get_config_file()["components"]}  # fmt: skip


def test_a_motion_that_is_dropped_is_answered_in_its_own_world(tmp_path):
    tiny_reaction(tmp_path / "reacts")
    name = (tmp_path / "reacts").as_posix()
    reacting = Maker(motion_checkpoints([tmp_path]), "cpu", max_upload=1.0)
    assert name in reacting.reacting() and name not in reacting.of_persons(2)
    (tmp_path / "take.bvh").write_text(bvh_text(walk(90)))
    np.save(tmp_path / "joints.npy", walk(60) + [3.0, 0.0, 1.0])
    for file, frames, at in (("take.bvh", 40, 0.0), ("joints.npy", 40, 3.0)):
        made = reacting.react(tmp_path / file, "", 7, 2, checkpoint=name)
        assert [each.joints.shape for each in made] == [(2, frames, 22, 3)] * 2 and made[0].captions == ()
        assert made[0].joints[0, 0, 0, 0] == pytest.approx(at, abs=0.2) and not np.allclose(made[0].joints, made[1].joints)
        assert [path.suffix for path in write_downloads(tmp_path, made[:1], 7)] == OF_TWO
    (late,) = reacting.react(tmp_path / "joints.npy", TEXT, checkpoint=name, reading=UploadReading(fps=30.0, start=1.0))
    assert late.joints.shape[1] == 30 and late.captions == (TEXT,)
    np.save(tmp_path / "two.npy", np.stack([walk(60)] * 2))
    np.save(tmp_path / "large.npy", np.zeros((2000, 22, 3)))
    for file, message in (("two.npy", "two.npy: 2 persons"), ("large.npy", "larger than 1 MB"), ("a.npz", "expected a motion")):
        (tmp_path / "a.npz").write_bytes(b"PK")
        with pytest.raises(ValueError, match=message):
            reacting.react(tmp_path / file, checkpoint=name)
    with pytest.raises(ValueError, match="not on the list"):
        reacting.react(tmp_path / "joints.npy", checkpoint="starter")
    with pytest.raises(ValueError, match="not on the list"):
        reacting.make(TEXT, checkpoint=name)
    reacting.read_actor.close()
    pytest.importorskip("gradio", reason="the page needs gradio: pip install gradio (the extra [demo])")
    from sample.demo_app import build

    labels = {one["props"].get("label") for one in build(None, reacting, tmp_path).get_config_file()["components"]}
    assert {"Reaction", "Guidance by the action"} <= labels
    without = Maker({"starter": reacting.checkpoints["starter"]}, "cpu")
    assert "Reaction" not in {one["props"].get("label") for one in build(None, without, tmp_path).get_config_file()["components"]}


@pytest.mark.parametrize("given, message", [
    ({"prompt": " \t"}, "the prompt is empty"),
    ({"prompt": "walk " * 100}, f"500 characters, at most {LONGEST_PROMPT}"),
    ({"prompt": None}, "the prompt is empty"),
    ({"checkpoint": "../../etc"}, "not on the list"),
    ({"seconds": 1e9}, "seconds: expected a number from 0.2 to 9.8"),
    ({"seconds": float("nan")}, "seconds"),
    ({"seed": -1}, "seed: expected a whole number"),
    ({"seed": 1.5}, "seed"),
    ({"count": 5}, "motions: expected a whole number from 1 to 4"),
    ({"guidance": float("inf")}, "guidance"),
])  # fmt: skip
def test_what_cannot_be_made_is_refused(maker, given, message):
    with pytest.raises(ValueError, match=message):
        maker.make(**({"prompt": TEXT} | given))


def test_visitors_at_the_same_time_get_their_own_answers(search, maker, tmp_path):
    words = [TEXT, "a person raises the left hand", "someone bows", "a person runs"]
    alone = [maker.make(text, 0.5, seed)[0].joints for seed, text in enumerate(words)]
    found = [search.by_text(text, 3).hits for text in words]

    def visit(i: int):
        text = words[i % 4]
        folder = tmp_path / str(i)
        folder.mkdir()
        made = maker.make(text, 0.5, i % 4)
        return search.by_text(text, 3).hits, made[0].joints, [path.read_bytes() for path in write_downloads(folder, made, i % 4)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(visit, range(8)))
    for i, (hits, joints, files) in enumerate(answers):
        assert hits == found[i % 4]
        np.testing.assert_array_equal(joints, alone[i % 4])
        assert files == answers[(i + 4) % 8][2]


def test_models_are_found_below_the_folders_and_damaged_ones_are_named_and_left_out(tmp_path, tmr, caplog):
    for name in ("broken", "half", "run/step_1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "half" / "config.json").write_text((tmr / "config.json").read_text())
    for file in tmr.iterdir():
        (tmp_path / "run" / "step_1" / file.name).write_bytes(file.read_bytes())
    shutil.copytree(tmr, tmp_path / "wrong")
    settings = json.loads((tmr / "config.json").read_text())
    (tmp_path / "wrong" / "config.json").write_text(json.dumps(settings | {"fps": 0, "num_layers": "many"}))
    found = [name for name in motion_checkpoints([tmp_path]) if name != "reaction"]
    assert found == ["starter", (tmp_path / "run/step_1").as_posix()]
    assert [f"{name} is left out" in caplog.text for name in ("broken", "half", "wrong")] == [True] * 3


def test_a_demo_of_what_is_not_there_says_what_to_give(tmp_path, tmr):
    with pytest.raises(FileError, match=r"holds no gallery.*--model_path MODEL --dataset DATASET"):
        open_search(gallery=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="dataset 'nowhere' not found"):
        open_search(gallery=tmp_path / "none", model_path=tmr, dataset="nowhere")
    with pytest.raises(FileNotFoundError, match="dataset 'elsewhere' not found"):
        open_search(dataset="elsewhere")


def test_other_weights_of_one_name_get_a_gallery_of_their_own(tmp_path, small_dataset, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_tmr(tmp_path / "tiny")
    first = open_search(model_path=Path("tiny"), dataset=str(small_dataset), device="cpu").gallery
    shutil.rmtree(tmp_path / "tiny")
    saved_tmr(tmp_path / "tiny", seed=1)
    second = open_search(model_path=Path("tiny"), dataset=str(small_dataset), device="cpu").gallery
    assert second.fingerprint != first.fingerprint and second.folder.name == f"{first.folder.name}-{second.fingerprint[:8]}"
    assert Gallery.load(first.folder).fingerprint == first.fingerprint  # as it was


@pytest.mark.slow
def test_without_recordings_motions_of_the_starter_weights_are_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no dataset is prepared here
    search = open_search(device="cpu")
    assert len(search.gallery) == len(list(Path("outputs/starter_motions").glob("*.npy"))) == 88 and not search.splits
    for hand in ("left", "right"):
        assert f"waves with the {hand} hand" in search.by_text(f"somebody waves their {hand} hand", 1).hits[0].caption
    stamps = [path.stat().st_mtime_ns for path in sorted(Path("outputs").rglob("*"))]
    assert len(open_search(device="cpu").gallery) == 88
    assert [path.stat().st_mtime_ns for path in sorted(Path("outputs").rglob("*"))] == stamps  # made once
    shutil.rmtree("outputs/starter_motions")
    Path("outputs/starter_motions").mkdir()
    Path("outputs/starter_motions/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty: move it away"):
        open_search(device="cpu")
    Path("outputs/starter_motions/mine.txt").unlink()
    found = open_search(device="cpu").by_text(TEXT, 6)
    assert len(found.hits) == len(found.motions) == 6 and not found.missing  # made again


def test_hits_that_are_gone_are_named_and_the_others_shown(tmp_path, monkeypatch, tmr):
    monkeypatch.chdir(tmp_path)
    folder = write_motions(tmp_path / "motions")
    encode_folder(tmr)
    search = open_search(gallery=tmp_path / "gallery")
    (folder / "walk.npy").unlink()
    found = search.by_text(TEXT, 12)
    assert len(found.hits) == len(found.motions) == 6 and "walk" not in [hit.name for hit in found.hits]
    page = hits_page(found)
    assert "Not shown: walk has changed or gone since, run encode_dataset again." in page and page.count("<iframe") == 6
    shutil.rmtree(folder)
    assert "Not shown: " in hits_page(search.by_text(TEXT, 12))


def test_words_cannot_leave_their_place_in_the_page(search):
    found = search.by_text(TEXT, 2)
    page = hits_page(found._replace(hits=[hit._replace(name=HOSTILE, caption=HOSTILE) for hit in found.hits]))
    outside = re.sub(r'(srcdoc|title)="[^"]*"', "", page)
    assert page.count("<iframe") == page.count("</iframe>") == page.count('sandbox="allow-scripts"') == 2
    assert set(re.findall(r"<(\w+)", outside)) == {"div", "figure", "iframe", "figcaption", "p", "span"}
    assert html.unescape(re.search(r'<p dir="auto">(.*?)</p>', outside)[1]) == HOSTILE
    assert player([found.motions[0]]).count("<iframe") == 1


def test_folders_of_this_machine_are_not_told_to_visitors():
    assert told(ValueError("/srv/x/y/walk.npy: no such file")) == "walk.npy: no such file"
    assert told(FileNotFoundError(2, "No such file", "/home/me/a.bvh")) == "a.bvh: No such file"
    assert told(ValueError("and/or 1 / 2, save/run is absent")) == "and/or 1 / 2, save/run is absent"


def test_help_is_instant():
    """Neither torch nor gradio is imported for it."""
    code = "import sys, sample.demo; print([m for m in ('torch', 'numpy', 'gradio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
