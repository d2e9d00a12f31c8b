"""The 3D page in a real browser, where there is one: it reads, draws, plays and turns what was written."""

import html

import numpy as np
import pytest

from data_loaders.corpus import Motion
from data_loaders.skeleton import load_skeleton
from tests.browser import Browser, find_chromium
from tests.synthetic import raise_hand, walk
from tests.test_web_viewer import HOSTILE, pair
from visualize.skinned_body import free_body, posed, worn
from visualize.web_viewer import viewer_html, write_viewer

CENTRE = (480, 280)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if find_chromium() is None:
        pytest.skip("no Chromium: set CHROMIUM to its path or install one (Debian: chromium-headless-shell)")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    """The tab of all tests; afterwards the page has raised no error and asked for nothing but itself."""
    chromium.errors.clear()
    chromium.requests.clear()
    yield chromium
    chromium.media()
    assert not chromium.errors
    assert all(url.startswith(("file:", "about:")) for url in chromium.requests)


@pytest.fixture
def show(browser, tmp_path):
    """Opens motions in the browser, at rest on frame 0."""

    def open_page(motions, **options):
        browser.open(write_viewer(tmp_path / "page.html", motions, **options))
        browser.evaluate("viewer.seek(0)")
        return browser

    return open_page


def picture(browser, tmp_path) -> np.ndarray:
    """(H, W, 3) in 0..1, of the page once it is drawn."""
    import matplotlib.image

    browser.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return matplotlib.image.imread(browser.screenshot(tmp_path / "page.png"))[..., :3]


def state(browser) -> dict:
    return browser.evaluate("viewer.state()")


def test_the_browser_reads_the_joints_that_were_written(show):
    joints = pair(30)
    browser = show([walk(10), Motion(joints, 20.0)])
    for person, frame, joint in ((0, 0, 0), (1, 29, 21), (0, 17, 15)):
        read = browser.evaluate(f"viewer.joint(1, {person}, {frame}, {joint})")
        assert np.abs(np.array(read) - joints[person, frame, joint]).max() < 0.001


def test_play_runs_in_real_time_at_the_chosen_speed_and_pause_rests_on_a_frame(show):
    browser = show(Motion(walk(600)[None], 20.0))
    for speed, index in ((1.0, 3), (0.25, 1)):
        browser.evaluate(
            f"viewer.seek(0); document.getElementById('speed').selectedIndex = {index};"
            "document.getElementById('speed').dispatchEvent(new Event('change'))"
        )
        browser.click("#play")
        assert state(browser)["playing"]
        now = "[performance.now() / 1000, viewer.state().seconds]"
        start, first = browser.evaluate(now)
        browser.rest(1.0)
        stop, second = browser.evaluate(now)
        assert second - first == pytest.approx(speed * (stop - start), abs=0.3 * speed)
        browser.click("#play")
        rested = state(browser)
        assert not rested["playing"] and rested["seconds"] * 20 == pytest.approx(rested["frame"], abs=1e-6)


def test_scrubbing_and_keys_reach_frames_and_the_picture_follows(show, tmp_path):
    browser = show(raise_hand(41))
    start = picture(browser, tmp_path)
    browser.click("#scrub")  # its middle
    assert state(browser)["frame"] == 20
    raised = picture(browser, tmp_path)
    assert (np.abs(raised - start)[:400].max(axis=-1) > 0.2).sum() > 300
    counter = browser.evaluate("document.getElementById('counter').textContent")
    assert counter.split() == ["20", "/", "40", "·", "1.00", "s", "20", "fps"]
    for key, shift, frame in (("ArrowRight", False, 21), ("ArrowLeft", True, 11), ("End", False, 40), ("ArrowRight", False, 0)):
        browser.key(key, shift)
        assert state(browser)["frame"] == frame
    browser.key(" ")
    assert state(browser)["playing"]
    browser.key(" ")
    assert not state(browser)["playing"]


def test_without_loop_the_last_frame_is_held(show):
    browser = show(walk(5))
    browser.click("#loop")
    assert browser.evaluate("document.getElementById('loop').getAttribute('aria-pressed')") == "false"
    browser.key(" ")  # the click left no focus on the button
    browser.rest(1.0)
    assert (state(browser)["frame"], state(browser)["playing"]) == (4, False)


def test_dragging_orbits_the_wheel_zooms_and_a_double_click_fits_again(show, tmp_path):
    browser = show(walk(20))
    home, first = state(browser)["camera"], picture(browser, tmp_path)
    browser.drag(CENTRE, (150, 40))
    turned = state(browser)["camera"]
    assert turned["turn"] < home["turn"] - 1 and turned["elevation"] > home["elevation"] + 0.2
    assert np.abs(picture(browser, tmp_path) - first).mean() > 0.005
    browser.mouse("Wheel", *CENTRE, deltaX=0, deltaY=-200)
    browser.drag(CENTRE, (60, 0), button="right")
    moved = state(browser)["camera"]
    assert moved["zoom"] < 0.8 and np.linalg.norm(moved["pan"]) > 0.05 and moved["turn"] == turned["turn"]
    for clicks in (1, 2):
        browser.mouse("Pressed", *CENTRE, button="left", clickCount=clicks)
        browser.mouse("Released", *CENTRE, button="left", clickCount=clicks)
    assert state(browser)["camera"] == home
    assert np.abs(picture(browser, tmp_path) - first)[:500].max() < 0.02


def test_two_fingers_zoom(show):
    browser = show(walk(20))
    browser.touch("Start", (440, 280), (520, 280))
    browser.touch("Move", (400, 280), (560, 280))
    browser.touch("End")
    assert state(browser)["camera"]["zoom"] == pytest.approx(0.5, abs=0.05)


def test_from_the_front_the_left_hand_is_blue_and_on_our_right(show, tmp_path):
    browser = show(walk(4, speed=0.0))
    browser.key("2")
    red, green, blue = np.moveaxis(picture(browser, tmp_path)[:540], -1, 0)
    left, right = np.argwhere((blue > red + 0.27) & (blue > green + 0.12)), np.argwhere((red > blue + 0.3) & (red > green + 0.2))
    assert min(len(left), len(right)) > 300 and left[:, 1].mean() > right[:, 1].mean() + 10


def test_every_control_and_picture_has_a_name_for_screen_readers(show):
    browser = show([walk(3), raise_hand(3)], captions=["someone walks", "a hand goes up"])
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    names = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if node.get("role", {}).get("value") in ("button", "combobox", "slider", "image")
    ]
    assert len(names) >= 15 and all(name for _, name in names), names
    assert {"Play", "Loop", "Frame", "Speed", "View", "Next frame"} <= {name for _, name in names}
    assert any("a hand goes up" in name for role, name in names if role == "image")


def test_the_reader_s_dark_setting_darkens_the_page(show, browser, tmp_path):
    browser.media(prefers_color_scheme="dark")
    shown = picture(show(walk(5), captions="walks"), tmp_path)
    assert np.median(shown) < 0.25 and shown.max() > 0.8
    browser.click("#theme")
    assert np.median(picture(browser, tmp_path)) > 0.8


def test_who_prefers_less_motion_starts_at_rest(browser, tmp_path):
    page = write_viewer(tmp_path / "page.html", walk(40))
    for preference, playing in (("reduce", False), ("no-preference", True)):
        browser.media(prefers_reduced_motion=preference)
        browser.open(page)
        assert state(browser)["playing"] is playing


@pytest.mark.parametrize("words", HOSTILE[:6])
def test_hostile_captions_are_shown_as_they_are_and_run_nothing(show, words):
    browser = show([walk(3)] * 2, captions=[words, "x"], labels=[words, words], title=words)
    assert browser.evaluate("document.querySelector('figcaption').textContent") == words
    assert browser.evaluate("[typeof window.hacked, document.scripts.length, document.images.length]") == ["undefined", 2, 0]


def test_the_page_plays_inside_another_and_many_clips_fit(browser, tmp_path):
    page = viewer_html([walk(20)] * 6, captions=[f"clip {i}" for i in range(6)])
    (tmp_path / "host.html").write_text(f'<iframe width=900 height=560 srcdoc="{html.escape(page)}"></iframe>')
    browser.open(tmp_path / "host.html")
    inside = "document.querySelector('iframe').contentWindow"
    assert browser.evaluate(f"{inside}.viewer.state().playing")
    boxes = f"[...{inside}.document.querySelectorAll('canvas')].map(c => [c.clientWidth, c.clientHeight])"
    sizes = np.array(browser.evaluate(boxes))
    assert len(sizes) == 6 and sizes.min() > 120


def test_in_a_small_frame_the_picture_gets_the_room_and_the_wheel_is_the_page_s(browser, tmp_path):
    page = html.escape(viewer_html(walk(20)))
    (tmp_path / "host.html").write_text(f'<body style="height: 3000px"><iframe width=260 height=270 srcdoc="{page}"></iframe>')
    browser.open(tmp_path / "host.html")
    inside = "document.querySelector('iframe').contentWindow"
    sizes = f"(w => [w.document.querySelector('canvas').clientHeight, w.document.documentElement.scrollWidth])({inside})"
    height, width = browser.evaluate(sizes)
    assert height > 200 and width <= 260
    zoom = browser.evaluate(f"{inside}.viewer.state().camera.zoom")
    browser.mouse("Wheel", 120, 100, deltaX=0, deltaY=200)
    browser.rest(0.5)
    assert browser.evaluate("scrollY") > 50 and browser.evaluate(f"{inside}.viewer.state().camera.zoom") == zoom


def test_the_browser_skins_bodies_as_the_videos_do(show):
    motion = Motion(pair(), 20.0)
    browser = show(motion, body=True)
    for person, (skin, pose) in enumerate(worn(free_body(), np.asarray(motion.joints, np.float64), load_skeleton("humanml"))):
        vertices = posed(skin, pose)
        for frame in (0, 5):
            drawn = browser.evaluate(
                f"(() => {{ const scene = panels[0].scene, person = scene.people[{person}], eye = eyeOf(panels[0]);"
                f" const pose = person.pose({frame} / person.fps, false);"
                f" return Array.from(person.skin.posed(person.skin.moves(pose, {frame}, 0), eye, [0, 1, 0])[0]); }})()"
            )
            assert np.abs(np.reshape(drawn, (-1, 3)) - vertices[frame]).max() < 0.02
            assert np.abs(np.reshape(drawn, (-1, 3)) - vertices[frame]).mean() < 0.003


def test_a_body_is_shaded(show, tmp_path):
    colours = []
    for body in (False, True):
        pixels = picture(show(walk(20), body=body), tmp_path)[60:480]
        colours.append(len(np.unique((50 * pixels[np.ptp(pixels, axis=2) > 0.15]).round(), axis=0)))
    assert colours[1] > 1.4 * colours[0] > 0
