"""Stick figures: what a viewer must be able to rely on in a frame, and what a file must be."""

import re
import subprocess
import time

import numpy as np
import pytest

from benchmarks.output import ours, usual_recipe
from benchmarks.timing import least
from data_loaders.corpus import Motion
from tests.synthetic import walk_in_a_curve as walking
from visualize import video
from visualize.body import follow
from visualize.score_plot import write_score_plot
from visualize.stick_figure import Panel, caption_font, text_width, wrap
from visualize.video import PictureError, Sheet, find_ffmpeg, write_gif, write_strip, write_video

SIZE = 160  # small pictures are enough for most statements
LEFT_WRIST, LEFT_ELBOW, LEFT_SHOULDER = 20, 18, 16


def standing(frames: int = 4) -> np.ndarray:
    """Somebody in step who faces +Z, with the left side at +X; every frame is the same."""
    return np.repeat(walking(4, 0, 0)[:1], frames, axis=0)


def hands_up(joints: np.ndarray) -> np.ndarray:
    raised = joints.copy()
    for shoulder, elbow, wrist in ((16, 18, 20), (17, 19, 21)):
        raised[:, elbow] = raised[:, shoulder] + [0, 0.26, 0]
        raised[:, wrist] = raised[:, elbow] + [0, 0.26, 0]
    return raised


def turned(joints: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


def blue(picture: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (blue > red + 70) & (blue > green + 30)


def orange(picture: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (red > blue + 80) & (red > green + 50)


def figure_mask(picture: np.ndarray) -> np.ndarray:
    """Pixels of limbs, head and back; the legend below does not count."""
    mask = blue(picture) | orange(picture) | (picture.max(axis=-1) < 110)
    mask[int(0.93 * len(mask)) :] = False
    return mask


def centre(mask: np.ndarray) -> float:
    """Column around which the pixels of a mask lie."""
    return float(np.argwhere(mask)[:, 1].mean())


def render_frames(motions, **settings):
    return Sheet(motions, **settings).pictures()


def draw(joints: np.ndarray, skeleton, size: int = 480) -> np.ndarray:
    """The first frame of joints (T, J, 3), filling the picture."""
    panel = Panel(joints[None], skeleton, 20.0, (size, size))
    panel.start(panel.framed(0.08 * size, 0.95 * size))
    return panel.draw(0)[..., :3].copy()


def decode(path, width: int, height: int) -> np.ndarray:
    command = [find_ffmpeg(), "-loglevel", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def stream_line(path) -> str:
    said = subprocess.run([find_ffmpeg(), "-hide_banner", "-i", path], capture_output=True, text=True).stderr
    return next(line for line in said.splitlines() if "Video:" in line)


# --- what one sees ---


def test_the_left_hand_of_somebody_facing_us_is_blue_and_on_our_right():
    picture = draw(standing(), *humanml())
    assert centre(blue(picture)) > centre(orange(picture)) + 5


def test_sides_change_places_in_the_picture_when_the_figure_turns_its_back():
    clip = np.concatenate([standing(1), turned(standing(1), 180)])
    front, back = render_frames(clip, size=SIZE)
    body = slice(None, int(0.9 * SIZE))
    assert centre(blue(front[body])) > centre(orange(front[body]))
    assert centre(blue(back[body])) < centre(orange(back[body]))


def test_the_view_does_not_depend_on_where_the_clip_stands_or_faces():
    here = draw(standing(), *humanml()).astype(int)
    there = draw(turned(standing(), 130) + [7.0, 0, -3.0], *humanml()).astype(int)
    assert np.abs(here - there)[:200].mean() < 0.5  # upper half: no grid, no shadow


def test_raising_the_left_hand_moves_blue_up_and_leaves_orange():
    rest, up = standing(1), standing(1)
    up[:, LEFT_ELBOW] = up[:, LEFT_SHOULDER] + [0, 0.26, 0]
    up[:, LEFT_WRIST] = up[:, LEFT_ELBOW] + [0, 0.26, 0]
    before, after = render_frames(np.concatenate([rest, up]), size=480)
    top = lambda mask: np.argwhere(mask)[:, 0].min()  # noqa: E731
    assert top(blue(after)) < top(blue(before)) - 40
    assert top(orange(after)) == top(orange(before))


def test_a_standing_figure_fills_about_two_thirds_of_the_height():
    rows = np.argwhere(figure_mask(draw(standing(), *humanml())))[:, 0]
    assert 0.55 < (rows.max() - rows.min()) / 480 < 0.75


@pytest.mark.parametrize("name", ["10 m walk", "hands up", "jump", "lying"])
def test_nothing_of_the_figure_is_cropped(name):
    clip = {
        "10 m walk": walking(170, speed=1.25, turn=0.0),
        "hands up": hands_up(standing()),
        "jump": standing(20) + np.array([0, 1, 0]) * np.abs(np.sin(np.linspace(0, np.pi, 20)))[:, None, None],
        "lying": standing()[..., [0, 2, 1]] + [0, 0.3, 0],
    }[name]
    sheet = Sheet(clip, None, "a caption that needs more than a single line of this small picture", 240, True, None, 4)
    below_words = (1.6 + 1.3 * (len(sheet.lines[0]) - 1) + 0.2) * caption_font(240)
    sheet.lines = [[]]  # framed for the caption, but without the dark letters
    for picture in list(sheet.pictures())[::10]:
        rows, columns = np.argwhere(figure_mask(picture)).T
        assert columns.min() >= 2 and columns.max() <= 237
        assert rows.min() > below_words and rows.max() < 0.93 * 240 - 2


def test_the_camera_follows_a_walk_and_the_floor_moves_below():
    frames = list(render_frames(walking(120, speed=1.2, turn=0.0), size=SIZE, trail=False))
    places = [centre(figure_mask(frame)) for frame in frames]
    assert np.ptp(places) < 0.25 * SIZE
    floor = slice(int(0.7 * SIZE), int(0.9 * SIZE))
    assert np.abs(frames[40][floor, :30].astype(int) - frames[45][floor, :30]).max() > 10  # beside the figure: lines


def test_the_camera_rests_while_somebody_stays_and_neither_lags_nor_leads_on_a_walk():
    sway = 0.2 * np.stack([np.sin(np.arange(100)), np.cos(np.arange(100))], axis=1)
    assert np.ptp(follow(sway, 20, 1.0), axis=0).max() == 0
    steady = np.stack([np.zeros(200), 0.06 * np.arange(200)], axis=1)
    assert np.abs(follow(steady, 20, 1.0) - steady)[60:140].max() < 0.02


def test_the_trail_shows_the_way_and_can_be_left_out():
    clip = walking(60, speed=1.2, turn=0.0)
    with_trail, without = (list(render_frames(clip, size=480, trail=on)) for on in (True, False))
    drawn = np.abs(with_trail[-1].astype(int) - without[-1]).max(axis=-1) > 40
    assert drawn.sum() > 50
    assert np.argwhere(drawn)[:, 0].min() > 240  # it lies on the floor
    assert np.array_equal(with_trail[0], without[0])


def test_two_people_have_colours_of_their_own():
    pair = np.stack([standing() - [0.5, 0, 0], turned(standing(), 90) + [0.5, 0, 0]])
    picture = next(iter(render_frames(Motion(pair, 20.0))))
    red, green, blue_ = np.moveaxis(picture[:440].astype(int), -1, 0)
    assert blue(picture).sum() > 200 and orange(picture).sum() > 200
    assert ((green > red + 60) & (green > blue_ + 10)).sum() > 200  # the other's left
    assert ((red > green + 80) & (blue_ > green + 50)).sum() > 200  # the other's right


def test_clips_side_by_side_share_a_scale_and_the_shorter_holds_its_last_frame():
    short, long = walking(10), walking(25)
    frames = list(render_frames([short, long], size=SIZE, captions=["short", "long"]))
    assert len(frames) == 25 and frames[0].shape == (SIZE, 2 * SIZE, 3)
    assert np.array_equal(frames[9][:, :SIZE], frames[24][:, :SIZE])
    assert not np.array_equal(frames[9][:, SIZE:], frames[24][:, SIZE:])
    sheet = Sheet([standing(), hands_up(standing()) * [1.3, 1.3, 1.3]], None, None, SIZE, True, None, 4)
    assert np.isclose(*[camera.pixels_per_metre for camera in sheet.cameras])


def test_many_clips_wrap_into_rows():
    assert next(iter(render_frames([standing()] * 5, size=64))).shape == (128, 256, 3)


def test_kit_and_unknown_skeletons_are_drawn():
    kit = np.zeros((3, 21, 3)) + np.linspace(0, 1.5, 21)[:, None] * [0.3, 1.0, 0.1]
    chain = Motion(np.cumsum(np.full((1, 3, 4, 3), 0.3), axis=2), 20.0, skeleton=(-1, 0, 1, 1))
    for motion in (kit, Motion(kit, 12.5, skeleton="kit"), chain):
        assert figure_mask(next(iter(render_frames(motion)))).sum() > 200


def humanml():
    from data_loaders.skeleton import load_skeleton

    return (load_skeleton("humanml"),)


# --- words ---


def test_long_captions_are_wrapped_to_three_lines_and_end_in_an_ellipsis():
    lines = wrap("a person walks forward and then " * 60, 450, 16.0)
    assert len(lines) == 3 and lines[-1].endswith(" …")
    assert max(text_width(line, 16.0) for line in lines) <= 450
    assert wrap("x" * 200, 100, 16.0, max_lines=50) and "".join(wrap("x" * 200, 100, 16.0, max_lines=50)) == "x" * 200


def test_a_long_label_is_cut_before_it_runs_into_the_legend():
    plain, short, long = (next(iter(render_frames(standing(), labels=[label], size=SIZE))) for label in ("", "7", "label " * 30))
    written = [np.argwhere((picture != plain).any(-1)) for picture in (short, long)]
    legend = np.argwhere((blue(plain) | orange(plain))[int(0.93 * SIZE) :])[:, 1].max()
    assert len(written[0]) and written[1][:, 1].min() > legend + 5  # columns
    assert written[1][:, 1].min() < written[0][:, 1].min() < 0.98 * SIZE


@pytest.mark.parametrize("words", [
    "a\nb\r\nc", "100 % %d {x}", "😀🕺 dances", "x" * 10_000, "walk " * 2_000, "e" + "\u0301" * 500, "\ud800 lone",
    "\x00\x1b[31m", "人" * 3_000, "", "\u202e",
])  # fmt: skip
def test_any_words_are_drawn_and_soon(tmp_path, words):
    """A word of ten thousand letters once took minutes."""
    start = time.monotonic()
    write_strip(tmp_path / "a.png", standing(), 2, words, 96)
    write_video(tmp_path / "a.mp4", standing(), captions=words, labels=[words], size=96)
    write_score_plot(tmp_path / "s.png", [np.linspace(0, 1, 20)], [words], [[(0.0, 1.0)]], 20.0)
    assert time.monotonic() - start < 20


def test_captions_are_taken_as_they_are():
    assert wrap(" walks\n\tfor $5_000$ ", 450, 16.0) == ["walks for $5_000$"]
    assert wrap(" \n ", 450, 16.0) == []
    for caption in ("$x_1$ \\frac{", "歩く人", "%s {} \x00", ""):
        assert next(iter(render_frames(standing(), captions=caption, size=SIZE))).shape == (SIZE, SIZE, 3)


# --- files ---


def test_a_video_has_the_frames_the_size_and_the_rate_that_were_asked_for(tmp_path):
    clip = walking(30)
    path = write_video(tmp_path / "new" / "folder" / "walk: 'a'%d.mp4", clip, captions="a person walks", size=241)
    line = stream_line(path)
    assert "h264" in line and "yuv420p" in line and "242x242" in line and re.search(r"\b20 fps", line)
    shown, drawn = decode(path, 242, 242), list(render_frames(clip, captions="a person walks", size=242))
    assert len(shown) == len(drawn) == 30
    for frame in (0, 29):  # colours survive: the file says in which colour space it is
        assert np.abs(shown[frame].astype(int) - drawn[frame]).mean() < 2.5
    assert centre(blue(shown[10])) > centre(orange(shown[10]))


def test_the_same_motion_gives_the_same_bytes(tmp_path):
    clips = [walking(20), walking(12, turn=1.0)]
    first, second = (write_video(tmp_path / name, clips, size=SIZE).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert first == second


def test_rates_are_kept_or_resampled_so_that_nobody_walks_faster(tmp_path):
    kit_rate = Motion(walking(26)[None], 12.5)
    assert "12.50 fps" in stream_line(write_video(tmp_path / "own.mp4", kit_rate, size=64))
    assert len(list(render_frames(kit_rate, fps=25, size=64))) == 51  # 25 gaps of 80 ms are 50 of 40 ms
    assert len(list(render_frames([kit_rate, Motion(walking(41)[None], 20.0)], size=64))) == 41  # both 2 s


def test_captions_come_from_the_motion_unless_given():
    motion = Motion(standing()[None], 20.0, captions=("a person stands", "another caption"))
    assert Sheet(motion, None, None, 480, True, None, 4).lines == [["a person stands"]]
    assert Sheet(motion, None, "mine", 480, True, None, 4).lines == [["mine"]]


def test_a_gif_loops_at_twenty_frames_per_second_at_most(tmp_path):
    from PIL import Image

    with Image.open(write_gif(tmp_path / "a.gif", Motion(walking(30)[None], 30.0), size=SIZE)) as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"], gif.info["loop"]) == (20, (SIZE, SIZE), 50, 0)


def test_a_strip_shows_the_poses_beside_each_other(tmp_path):
    import matplotlib.image

    clip = walking(80)
    pictures = [
        matplotlib.image.imread(write_strip(tmp_path / f"{poses}.png", clip, num_poses=poses, caption="walks", height=200))
        for poses in (3, 6)
    ]
    assert [picture.shape[0] for picture in pictures] == [200, 200]
    assert pictures[1].shape[1] > 1.6 * pictures[0].shape[1]
    for poses, picture in zip((3, 6), pictures):
        head_rows = (picture[40:60, :, :3].max(axis=-1) < 0.4).any(axis=0)  # heads are dark
        assert np.count_nonzero(np.diff(head_rows.astype(int)) == 1) == poses
    write_strip(tmp_path / "short.png", clip[:2], num_poses=8)  # fewer frames than poses


# --- what goes wrong ---


def broken(value):
    joints = standing()
    joints[2, 5, 1] = value
    return joints


@pytest.mark.parametrize(
    ("motions", "options", "words"),
    [
        (broken(np.nan), {}, "joint 5 is not a finite number in frame 2"),
        (broken(np.inf), {}, "not a finite number"),
        ([standing(), np.zeros((0, 22, 3))], {}, "motion 1 is empty"),
        ([], {}, "no motions"),
        (np.zeros((4, 22)), {}, "shape"),
        (np.zeros((4, 17, 3)), {}, "17 joints"),
        (Motion(np.zeros((1, 4, 21, 3)), 20.0), {}, "21 joints, its skeleton 22"),
        (Motion(np.zeros((1, 4, 3, 3)), 20.0, skeleton=(1, -1, 0)), {}, "before their children"),
        (Motion(standing()[None], 0.0), {}, "0.0 frames per second"),
        (standing(), {"fps": -1}, "fps"),
        (standing(), {"fps": float("nan")}, "fps"),
        (standing(), {"size": 3}, "size"),
        (standing(), {"captions": ["one", "two"]}, "2 captions for 1 motions"),
        (standing(), {"columns": 0}, "columns"),
        (standing(), {"qp": 99}, "qp"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line_and_writes_nothing(tmp_path, motions, options, words):
    with pytest.raises(PictureError, match=re.escape(words)) as error:
        write_video(tmp_path / "a.mp4", motions, **options)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_path_below_a_file_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (write_video, write_gif, write_strip):
        with pytest.raises(OSError, match="file"):
            write(tmp_path / "file" / "a.mp4", standing())


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("cat >/dev/null; echo 'av_write: No space left on device' >&2; echo more >&2; exit 1", "no space left on the disk"),
        ("exit 3", "exit status 3"),
        ("head -c 1000 >/dev/null; echo 'first' >&2; echo 'codec trouble' >&2; exit 1", "codec trouble"),
    ],
)
def test_a_failing_ffmpeg_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, script, words):
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(video, "find_ffmpeg", lambda: str(program))
    target = tmp_path / "out" / "a.mp4"
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(OSError, match=words) as error:
        write_video(target, walking(30), size=SIZE)
    assert "\n" not in str(error.value)
    assert target.read_text() == "old" and list(target.parent.iterdir()) == [target]


def test_an_interrupted_drawing_stops_ffmpeg_and_leaves_nothing(tmp_path, monkeypatch):
    def frames(self):
        yield np.zeros(SIZE * SIZE * 3 // 2, np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(Sheet, "planes", frames)
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", standing(), size=SIZE)
    assert not list(tmp_path.iterdir())


def test_a_missing_ffmpeg_names_what_to_install(tmp_path, monkeypatch):
    import imageio_ffmpeg

    def absent():
        raise RuntimeError("no binary")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", absent)
    find_ffmpeg.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match="pip install imageio-ffmpeg"):
            write_video(tmp_path / "a.mp4", standing(), size=SIZE)
    finally:
        find_ffmpeg.cache_clear()
    assert not list(tmp_path.iterdir())


# --- cost ---


def test_a_video_costs_a_fraction_of_the_usual_recipe(tmp_path):
    """About twenty times less for ten seconds (benchmarks/output.py); seven leaves room for a busy machine and a short clip."""
    clip = walking(60)
    ours(tmp_path / "warm.mp4", walking(4), "warm")
    usual_recipe(tmp_path / "warm.mp4", walking(2), "warm")
    (usual,) = least(lambda: usual_recipe(tmp_path / "usual.mp4", clip, "a person walks"), rounds=1)
    (mine,) = least(lambda: ours(tmp_path / "ours.mp4", clip, "a person walks"), rounds=3)
    assert usual.cpu > 7 * mine.cpu
