"""Motions as one self-contained HTML page that plays them in 3D: opens from disk, mails as an attachment, needs no network.

The page is `web_viewer.html` with its style, its scripts and the clips filled in. Figures, colours and the first view
are those of the videos.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from protos.files import write_atomically
from visualize.body import HAZE, LIGHT, PERSON_COLOURS, PITCH, Body, choose_camera, facing
from visualize.skinned_body import require_skinned
from visualize.stick_figure import Panel
from visualize.video import Clip, checked_clips
from visualize.web_viewer_body import packed, page_mesh, page_skins

STEP = 0.00025  # metres per unit of a packed joint: finer than any motion capture, and 8 m from the root fit into int16
SQUARE = (480, 480)  # the camera's direction does not depend on it


def write_viewer(path: str | Path, motions: Clip | Sequence[Clip], **settings: Any) -> Path:
    """Writes the page of `viewer_html`, whose settings these are; returns its path. OSError for what cannot be written."""
    write_atomically(Path(path), viewer_html(motions, **settings))
    return Path(path)


def viewer_html(
    motions: Clip | Sequence[Clip],
    fps: float | None = None,
    captions: str | Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    together: bool = False,
    title: str | None = None,
    body: bool = False,
) -> str:
    """A whole page that plays motions side by side or, `together`, as people on one floor; for an iframe, escape it.

    Motions are `Motion`s, or joints (T, J, 3) / (P, T, J, 3) in metres, Y up; `fps` is the rate of bare joints. Every motion
    keeps its rate, a shorter one holds its last frame. `captions` replace the motions' own, `labels` stand small in the
    corner; both may be any text. Joints are kept to a quarter of a millimetre. `body`: bodies in place of stick figures.
    PictureError for what cannot be drawn, FileError for a body on other joints than humanml's.
    """
    bodies, captions, labels = checked_clips(motions, fps, captions, labels)
    rate = max(rate for _, _, rate in bodies)  # of the page's clock
    if together:
        words = [" · ".join(filter(None, pair)) for pair in zip(labels, captions)]
        scenes = [_scene(bodies, rate, body) | {"caption": " / ".join(dict.fromkeys(filter(None, words))), "label": ""}]
    else:
        scenes = [
            _scene([one], rate, body) | {"caption": caption, "label": label}
            for one, caption, label in zip(bodies, captions, labels)
        ]
    spoken = {scene["caption"] for scene in scenes}
    content = {
        "fps": rate,
        "frames": max(_num_frames(joints, own, rate) for joints, _, own in bodies),
        "clips": scenes,
        "sharedCaption": spoken.pop() if len(spoken) == 1 else None,
        "palettes": (255 * PERSON_COLOURS).round().astype(int).tolist(),
        "light": LIGHT.tolist(),
        "haze": HAZE,
        "elevation": float(PITCH),
        "mesh": page_mesh() if body else None,
    }
    return _page(title or next(filter(None, captions), "Motion"), content)


def _num_frames(joints: np.ndarray, own: float, rate: float) -> int:
    """How many ticks of a clock of `rate` joints (P, T, J, 3) of rate `own` last."""
    return int(np.ceil(joints.shape[1] / own * rate - 1e-6))


def _scene(bodies: list[tuple], rate: float, skinned: bool) -> dict:
    """What the page knows of people on one floor, given as [(joints (P, T, J, 3), skeleton or parents, fps)]."""
    panels = [Panel(joints, tree, own, SQUARE) for joints, tree, own in bodies]
    floor = min(panel.floor for panel in panels)
    size = max(panel.body.size for panel in panels)
    clock = np.arange(max(_num_frames(joints, own, rate) for joints, _, own in bodies)) / rate
    roots = [_sampled(root, own, clock) for joints, _, own in bodies for root in joints[:, :, 0]]
    heading = facing(panels[0].joints[0, 0], panels[0].body.face_joints)
    # people as their roots alone: where the camera stands and goes depends on nothing else
    camera = choose_camera(np.stack(roots)[:, :, None], heading, floor, size, rate, SQUARE)
    back = camera.axes[2]
    return {
        "floor": round(float(floor), 4),
        "size": round(size, 4),
        "heading": float(np.arctan2(heading[0], heading[1])),
        "azimuth": float(np.arctan2(back[0], back[2])),
        "path": packed(camera.target[:, [0, 2]].astype("<f4")),
        "bodies": [_figure(panel.body) for panel in panels],
        "people": [
            {"body": i, "fps": own, "frames": len(person), "skin": skin} | _packed(person)
            for i, (joints, tree, own) in enumerate(bodies)
            for person, skin in zip(joints, page_skins(joints, require_skinned(tree)) if skinned else repeat(None))
        ],
    }


def _sampled(root: np.ndarray, rate: float, clock: np.ndarray) -> np.ndarray:
    """A root path (T, 3) at the seconds `clock`; its end is held."""
    times = np.arange(len(root)) / rate
    return np.stack([np.interp(clock, times, root[:, axis]) for axis in range(3)], axis=1)


def _figure(body: Body) -> dict:
    return {
        "bones": body.bones.tolist(),
        "sides": body.side.tolist(),
        "radii": body.radii.round(5).tolist(),
        "head": int(body.head),
        "neck": int(body.neck),
        "headRadius": round(body.head_radius, 5),
        "size": round(body.size, 5),
        "face": list(body.face_joints) if body.face_joints is not None else None,
    }


def _packed(joints: np.ndarray) -> dict:
    """Joints (T, J, 3) as base64: roots (T, 3) int32, then the others (T, J - 1, 3) int16 relative to them, in steps.

    The step in metres grows where a body is so large that int16 would not hold it: such joints are in another unit.
    """
    joints = joints.astype(np.float64)
    reach = float(np.abs(joints - joints[:, :1]).max())
    step = max(STEP, reach / 32000, float(np.abs(joints).max()) / 2e9)
    counts = np.rint(joints / step)
    others = (counts[:, 1:] - counts[:, :1]).astype("<i2")  # of rounded roots: errors do not add up
    return {"step": step, "data": packed(counts[:, 0].astype("<i4"), others)}


@lru_cache(maxsize=1)
def _template() -> tuple[str, str, str]:
    """Page, style and script."""
    folder = Path(__file__).parent
    names = (".html", ".css", "_scene.js", "_body.js", "_player.js")
    page, style, *scripts = ((folder / f"web_viewer{name}").read_text(encoding="utf-8") for name in names)
    return page, style, "\n".join(scripts)


def _page(title: str, content: dict) -> str:
    """The page filled in. Its policy admits this script and this style and nothing else, least of all the network."""
    page, style, script = _template()
    title = html.escape(" ".join(title.split())[:120]).encode("ascii", "xmlcharrefreplace").decode()
    policy = f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'"
    return filled(page, title=title, policy=policy, style=style, script=script, clips=script_json(content))


def page_digests() -> tuple[str, str]:
    """Digests of the script and the style of every page, for the policy of another page that holds one."""
    _, style, script = _template()
    return digest(script), digest(style)


def script_json(content: dict) -> str:
    """JSON for an element of a page: without "<", so that no text can end the element; ASCII, so that no character is special
    to a script."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def filled(page: str, **parts: str) -> str:
    """A page with parts in its slots `{{name}}`, in one pass: what is filled in is not searched."""
    return re.sub(r"\{\{(\w+)\}\}", lambda slot: parts[slot[1]], page)


def digest(text: str) -> str:
    """Of a script or a style, as a policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
