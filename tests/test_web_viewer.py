"""The 3D page as a file: what is in it, and what no caption can do to it."""

import base64
import fnmatch
import hashlib
import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from data_loaders.corpus import Motion
from data_loaders.skeleton import load_skeleton
from tests.synthetic import raise_hand, walk
from visualize.video import PictureError
from visualize.web_viewer import viewer_html, write_viewer

HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "</ScRiPt ><img src=x onerror='window.hacked = 1'>",
    "<!--<script>",
    "</title></style></textarea><svg onload=window.hacked=1>",
    "\"'&amp;&lt;b&gt; ' + (window.hacked = 1) + '",
    "{{script}} {{clips}} \\1 \\g<0> $& %s {} ${window.hacked = 1}",
    "\u2028\u2029\x00\x1b[31m\ud800 \u202etxet 人が歩く",
]


class Elements(HTMLParser):
    """Names and attributes of all elements, and the text of script, style and title."""

    def __init__(self, page: str):
        super().__init__()
        self.names, self.attributes, self.texts, self.inside = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.attributes.append(dict(attributes))
        self.inside = tag

    def handle_data(self, text):
        if self.inside in ("script", "style", "title"):
            self.texts.append((self.inside, text))

    def handle_endtag(self, tag):
        self.inside = None

    def text(self, name: str, index: int = 0) -> str:
        return [text for inside, text in self.texts if inside == name][index]


def content_of(page: str) -> dict:
    return json.loads(Elements(page).text("script"))


def joints_in(person: dict, num_joints: int) -> np.ndarray:
    """Joints (T, J, 3) as the page's script unpacks them."""
    raw, frames = base64.b64decode(person["data"]), person["frames"]
    roots = np.frombuffer(raw, "<i4", 3 * frames).reshape(frames, 1, 3)
    others = np.frombuffer(raw, "<i2", offset=12 * frames).reshape(frames, num_joints - 1, 3)
    return person["step"] * np.concatenate([roots, roots + others], axis=1)


def pair(frames: int = 40) -> np.ndarray:
    return np.stack([walk(frames), raise_hand(frames) + [1.0, 0, 2.0]])


# --- what is in the file ---


@pytest.mark.parametrize("offset", [0.0, 300.0, -50_000.0])
def test_joints_come_back_within_a_millimetre_wherever_the_clip_stands(offset):
    joints = walk(120, speed=6.0) + [offset, 0, -offset]
    (clip,) = content_of(viewer_html(joints))["clips"]
    assert np.linalg.norm(joints_in(clip["people"][0], 22) - joints, axis=-1).max() < 0.001


def test_joints_in_another_unit_are_kept_in_proportion():
    joints = 1000.0 * walk(20)
    (clip,) = content_of(viewer_html(joints))["clips"]
    assert np.abs(joints_in(clip["people"][0], 22) - joints).max() < 1e-4 * np.ptp(joints)


def test_the_page_is_small_and_six_seconds_are_a_few_dozen_kilobytes(tmp_path):
    sizes = [write_viewer(tmp_path / f"{n}.html", walk(n)).stat().st_size for n in (1, 120)]
    assert sizes[0] < 60_000 and sizes[1] - sizes[0] < 30_000


def test_nothing_is_fetched_from_anywhere():
    page = viewer_html([walk(5), raise_hand(5)], captions=["one", "two"])
    assert not re.search(r"https?:|wss?:|url\(|@import|\bimport\b|\bfetch\(|XMLHttpRequest", page)
    for attributes in Elements(page).attributes:
        assert not {"src", "href", "action", "data"} & set(attributes)


def test_the_policy_admits_this_script_and_this_style_only():
    elements = Elements(viewer_html(walk(5)))
    policy = next(a["content"] for a in elements.attributes if a.get("http-equiv") == "Content-Security-Policy")
    for kind, text in (("script", elements.text("script", 1)), ("style", elements.text("style"))):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy


def test_left_and_right_limbs_and_every_person_have_colours_of_their_own():
    content = content_of(viewer_html(pair()))
    (clip,) = content["clips"]
    skeleton = load_skeleton("humanml")
    sides = clip["bodies"][0]["sides"]
    assert [sides[j] for j in skeleton.left_joints] == [0] * 8 and [sides[j] for j in skeleton.right_joints] == [1] * 8
    colours = [tuple(colour) for palette in content["palettes"] for colour in palette[:2]]
    assert len(set(colours)) == len(colours) >= 8
    assert [person["body"] for person in clip["people"]] == [0, 0]


def test_motions_stand_side_by_side_or_together_on_one_floor():
    motions = [Motion(pair(), 20.0, captions=("two meet",)), raise_hand(30)]
    beside = content_of(viewer_html(motions))["clips"]
    assert [len(clip["people"]) for clip in beside] == [2, 1]
    (together,) = content_of(viewer_html(motions, together=True, labels=["a", "b"]))["clips"]
    assert [person["body"] for person in together["people"]] == [0, 0, 1]
    assert together["caption"] == "a · two meet / b"
    np.testing.assert_allclose(joints_in(together["people"][2], 22), raise_hand(30), atol=0.001)


def test_every_motion_keeps_its_rate_and_the_clock_runs_at_the_highest():
    content = content_of(viewer_html([Motion(walk(25)[None], 12.5), Motion(walk(45)[None], 30.0)]))
    assert (content["fps"], content["frames"]) == (30.0, 60)  # 25 frames of 80 ms are two seconds
    assert [clip["people"][0]["fps"] for clip in content["clips"]] == [12.5, 30.0]
    assert [clip["people"][0]["frames"] for clip in content["clips"]] == [25, 45]
    assert content_of(viewer_html(walk(25)))["fps"] == 20.0
    assert content_of(viewer_html(walk(25), fps=24))["fps"] == 24.0


def test_the_camera_goes_along_with_a_walk():
    content = content_of(viewer_html(Motion(walk(100, speed=1.5)[None], 20.0)))
    path = np.frombuffer(base64.b64decode(content["clips"][0]["path"]), "<f4").reshape(-1, 2)
    assert len(path) == content["frames"] == 100
    assert np.abs(path - walk(100, speed=1.5)[:, 0, [0, 2]]).max() < 0.5


def test_other_skeletons_are_played():
    kit = np.zeros((3, 21, 3)) + np.linspace(0, 1.5, 21)[:, None] * [0.3, 1.0, 0.1]
    chain = Motion(np.cumsum(np.full((1, 3, 4, 3), 0.3), axis=2), 20.0, skeleton=(-1, 0, 1, 1))
    point = Motion(np.zeros((1, 2, 1, 3)), 20.0, skeleton=(-1,))
    content = content_of(viewer_html([kit, chain, point]))
    assert [len(clip["bodies"][0]["radii"]) for clip in content["clips"]] == [21, 4, 1]
    assert content["clips"][1]["bodies"][0]["face"] is None


def test_the_same_motion_gives_the_same_bytes_and_an_old_file_is_replaced(tmp_path):
    (tmp_path / "a.html").write_text("old")
    first, second = (write_viewer(tmp_path / name, pair()).read_bytes() for name in ("a.html", "new/b.html"))
    assert first == second and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("words", HOSTILE)
def test_no_caption_becomes_markup(words, tmp_path):
    page = write_viewer(tmp_path / "a.html", [walk(3)] * 2, captions=[words, "x"], labels=[words, ""], title=words).read_text()
    elements, plain = Elements(page), Elements(viewer_html(walk(3)))
    assert elements.names == plain.names
    clip = content_of(page)["clips"][0]
    assert clip["caption"] == clip["label"] == words  # as it was, down to the last character


def test_a_caption_shared_by_all_is_said_once():
    assert content_of(viewer_html([walk(3)] * 2, captions=["walks", "walks"]))["sharedCaption"] == "walks"
    assert content_of(viewer_html([walk(3)] * 2, captions=["walks", "runs"]))["sharedCaption"] is None


def broken(value: float) -> np.ndarray:
    joints = walk(5)
    joints[2, 5, 1] = value
    return joints


@pytest.mark.parametrize(
    ("motions", "options", "words"),
    [
        (broken(np.nan), {}, "motion 0: joint 5 is not a finite number in frame 2"),
        ([walk(5), broken(np.inf)], {}, "motion 1: joint 5 is not a finite number in frame 2"),
        ([], {}, "no motions"),
        (np.zeros((0, 22, 3)), {}, "empty"),
        (np.zeros((4, 17, 3)), {}, "17 joints"),
        (Motion(walk(3)[None], 0.0), {}, "0.0 frames per second"),
        (walk(3), {"fps": float("nan")}, "fps"),
        (walk(3), {"captions": ["one", "two"]}, "2 captions for 1 motions"),
        (walk(3), {"labels": ["one", "two"]}, "2 labels for 1 motions"),
    ],
)
def test_what_cannot_be_played_is_said_in_a_line_and_writes_nothing(tmp_path, motions, options, words):
    with pytest.raises(PictureError, match=re.escape(words)) as error:
        write_viewer(tmp_path / "a.html", motions, **options)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_the_parts_of_the_page_are_installed_with_the_package():
    root = Path(__file__).resolve().parents[1]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["visualize"]
    parts = [path.name for path in (root / "visualize").iterdir() if path.suffix in (".html", ".css", ".js")]
    assert parts and all(any(fnmatch.fnmatch(name, pattern) for pattern in patterns) for name in parts)
