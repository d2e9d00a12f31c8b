"""What a person does, read from joints with plain geometry: the measures behind the probes, and the rules over them.

`describe` turns one motion into a `Description` of a few numbers in metres, seconds and degrees; a rule is a function
Description -> bool whose thresholds the probes of a dataset give. They hold for the target body of humanml (shoulder to
wrist 0.53 m, hip to ankle 0.82 m); `eval_probes --validate` shows what they are worth.
Everything is measured relative to the body, so world position and heading do not matter.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

PELVIS, L_HIP, R_HIP, L_ANKLE, R_ANKLE, CHEST, NECK, HEAD = 0, 1, 2, 7, 8, 9, 12, 15
L_SHOULDER, R_SHOULDER, L_ELBOW, R_ELBOW, L_WRIST, R_WRIST = 16, 17, 18, 19, 20, 21
LEFT_FOOT, RIGHT_FOOT = [7, 10], [8, 11]
LEFT, RIGHT = 0, 1

RAISED = -0.10  # wrist height over the shoulder (m): graceful raises in the corpus stop right at the shoulder
AIRBORNE = 0.04  # both feet this far (m) over their usual lowest height: a flight phase
LEG_STRAIGHT = 0.62  # hip to ankle (m): a kick has a straight leg, the heel of a runner comes up with a bent one


@dataclass(frozen=True)
class Description:
    """One motion in numbers. Pairs are (left, right); speeds in m/s, angles in degrees, heights and reaches in m."""

    seconds: float
    speed: float  # of the root along its path
    forward_speed: float  # along the body's own facing, frame by frame: negative when backing up
    left_speed: float
    turn: float  # from the mean facing of the first moments to that of the last ones, left positive
    flight: float  # share of frames with both feet in the air
    cadence: float  # steps per second: how often the ankles pass each other
    stride: float  # how far apart they get
    raised_seconds: tuple[float, float]  # time the wrist is at least as high as the shoulder
    wrist_top: tuple[float, float]  # highest the wrist gets over the shoulder
    wrist_lift: tuple[float, float]  # difference between its highest and lowest
    hands_apart: float  # distance of the wrists while both are raised, 0 where they never are
    swings: tuple[int, int]  # changes of direction of the raised wrist, sideways around the elbow
    hand_speed: float  # of the faster wrist relative to the chest, at its brisk moments (90 % of frames are slower)
    bow: float  # how far the trunk pitches forward beyond where it starts and ends
    bow_head: float  # pitch of the head over that of the upper trunk, at the deepest point
    bow_reach: float  # how far a wrist is held out in front of its shoulder there
    punch: float  # longest quick stretch of an arm at shoulder height, from a bent elbow
    kick: float  # highest a nearly straight leg lifts its ankle over the ground


def describe(joints: np.ndarray, fps: float) -> Description | None:
    """Description of joints (T, 22, 3) in metres, Y up, 22-joint HumanML3D skeleton. None for fewer than 8 frames
    or where a value is not finite: such a motion does nothing that could be named."""
    joints = np.asarray(joints, dtype=np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (22, 3):
        raise ValueError(f"joints have shape {joints.shape}, probes expect (frames, 22, 3)")
    if len(joints) < 8 or not np.isfinite(joints).all():
        return None
    steady = _smooth(joints, 0.035 * fps)
    yaw, forward, left = facing(steady, fps)
    return Description(
        seconds=len(joints) / fps,
        **_travel(joints, yaw, forward, left, fps),
        **_gait(steady, forward, fps),
        **_hands(joints, steady, fps),
        **_trunk(steady, forward, fps),
        punch=max(_punch(steady, L_SHOULDER, L_WRIST, fps), _punch(steady, R_SHOULDER, R_WRIST, fps)),
        kick=_kick(joints),
    )


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, sigma, axis=0, mode="nearest")


def facing(joints: np.ndarray, fps: float, seconds: float = 0.15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Yaw (T,) in radians, continuous, left positive; unit forward (T, 3) and left (T, 3), from hips and shoulders."""
    across = joints[:, L_HIP] - joints[:, R_HIP] + joints[:, L_SHOULDER] - joints[:, R_SHOULDER]
    across = _smooth(across, seconds * fps)
    yaw = np.unwrap(np.arctan2(-across[:, 2], across[:, 0]))
    sin, cos, zero = np.sin(yaw), np.cos(yaw), np.zeros_like(yaw)
    return yaw, np.stack([sin, zero, cos], -1), np.stack([cos, zero, -sin], -1)


def _along(vectors: np.ndarray, axis: np.ndarray) -> np.ndarray:
    return np.einsum("td,td->t", vectors, axis)


def _travel(joints: np.ndarray, yaw: np.ndarray, forward: np.ndarray, left: np.ndarray, fps: float) -> dict:
    velocity = np.diff(_smooth(joints[:, PELVIS], 0.12 * fps), axis=0) * fps  # (T-1, 3): sway of the steps taken out
    ends = max(1, min(round(0.4 * fps), len(yaw) // 4))
    return {
        "speed": float(np.hypot(velocity[:, 0], velocity[:, 2]).mean()),
        "forward_speed": float(_along(velocity, forward[:-1]).mean()),
        "left_speed": float(_along(velocity, left[:-1]).mean()),
        "turn": float(np.degrees(yaw[-ends:].mean() - yaw[:ends].mean())),
    }


def _gait(joints: np.ndarray, forward: np.ndarray, fps: float) -> dict:
    lowest_foot = np.minimum(joints[:, LEFT_FOOT, 1].min(1), joints[:, RIGHT_FOOT, 1].min(1))
    ground = np.percentile(lowest_foot, 5)
    apart = _along(joints[:, L_ANKLE] - joints[:, R_ANKLE], forward)
    apart = _smooth(apart - apart.mean(), 0.05 * fps)
    return {
        "flight": float((lowest_foot - ground > AIRBORNE).mean()),
        "cadence": float(np.count_nonzero(np.diff(np.signbit(apart))) * fps / len(apart)),
        "stride": float(np.percentile(np.abs(apart), 95)),
    }


def _hands(joints: np.ndarray, steady: np.ndarray, fps: float) -> dict:
    _, _, left = facing(steady, fps, seconds=1.0)  # a calm frame: a waving arm also twists the shoulders
    sides: dict[str, list] = {"raised_seconds": [], "wrist_top": [], "wrist_lift": [], "swings": []}
    both_up = np.ones(len(joints), dtype=bool)
    for shoulder, elbow, wrist in ((L_SHOULDER, L_ELBOW, L_WRIST), (R_SHOULDER, R_ELBOW, R_WRIST)):
        height = steady[:, wrist, 1] - steady[:, shoulder, 1]
        low, top = np.percentile(height, [3, 97])
        up = np.flatnonzero(height > max(RAISED, top - 0.20))
        sideways = _along(steady[:, wrist] - steady[:, elbow], left)
        both_up &= height > RAISED
        sides["raised_seconds"].append(float((height > RAISED).sum() / fps))
        sides["wrist_top"].append(float(top))
        sides["wrist_lift"].append(float(top - low))
        sides["swings"].append(reversals(sideways[up[0] : up[-1] + 1], 0.025) if len(up) else 0)
    apart = np.linalg.norm(joints[both_up, L_WRIST] - joints[both_up, R_WRIST], axis=-1)
    wrists = np.diff(steady[:, [L_WRIST, R_WRIST]] - steady[:, [CHEST]], axis=0)
    brisk = np.percentile(np.linalg.norm(wrists, axis=-1).max(axis=1), 90) * fps
    return {
        "hands_apart": float(np.median(apart)) if len(apart) else 0.0,
        "hand_speed": float(brisk),
        **{name: tuple(values) for name, values in sides.items()},
    }


def reversals(signal: np.ndarray, amplitude: float) -> int:
    """How often a signal (T,) changes direction, smaller back and forth than `amplitude` left out."""
    count, direction, extreme = 0, 0, signal[0]
    lowest = highest = signal[0]
    for value in signal:
        if direction == 0:
            lowest, highest = min(lowest, value), max(highest, value)
            if value - lowest > amplitude:
                direction, extreme = 1, value
            elif highest - value > amplitude:
                direction, extreme = -1, value
        elif (value - extreme) * direction > 0:
            extreme = value
        elif abs(value - extreme) > amplitude:
            direction, extreme, count = -direction, value, count + 1
    return count


def _trunk(joints: np.ndarray, forward: np.ndarray, fps: float) -> dict:
    def pitch(lower: int, upper: int) -> np.ndarray:
        bone = joints[:, upper] - joints[:, lower]
        return np.degrees(np.arctan2(_along(bone, forward), bone[:, 1]))

    trunk = pitch(PELVIS, NECK)
    deepest = int(trunk.argmax())
    ends = max(1, round(0.15 * fps))
    peak = np.percentile(trunk, 97)
    around = slice(max(0, deepest - ends), deepest + ends + 1)
    reach = [
        _along(joints[:, wrist] - joints[:, shoulder], forward)[around].mean()
        for shoulder, wrist in ((L_SHOULDER, L_WRIST), (R_SHOULDER, R_WRIST))
    ]
    return {
        "bow": float(peak - max(trunk[:ends].mean(), trunk[-ends:].mean())),
        "bow_head": float((pitch(NECK, HEAD) - pitch(CHEST, NECK))[around].mean()),
        "bow_reach": float(max(reach)),
    }


def _punch(joints: np.ndarray, shoulder: int, wrist: int, fps: float) -> float:
    """Longest gain (m) in the distance of wrist and shoulder within 0.25 s that starts from a bent arm and ends with a
    long one, the wrist near shoulder height all along."""
    arm = joints[:, wrist] - joints[:, shoulder]
    reach = np.linalg.norm(arm, axis=-1)
    level = np.abs(arm[:, 1]) < 0.25
    best = 0.0
    for gap in range(2, max(3, round(0.25 * fps) + 1)):
        if gap >= len(reach):
            break
        valid = level[gap:] & level[:-gap] & (reach[:-gap] < 0.38) & (reach[gap:] > 0.42)
        best = max(best, float(np.where(valid, reach[gap:] - reach[:-gap], 0.0).max()))
    return best


def _kick(joints: np.ndarray) -> float:
    ground = joints[..., 1].min()
    heights = []
    for hip, ankle in ((L_HIP, L_ANKLE), (R_HIP, R_ANKLE)):
        straight = np.linalg.norm(joints[:, ankle] - joints[:, hip], axis=-1) > LEG_STRAIGHT
        heights.append(np.where(straight, joints[:, ankle, 1] - ground, 0.0).max())
    return float(max(heights))


# ---------------------------------------------------------------------------------------------------------------- rules
# Each says whether a motion shows something. What differs from content to content are parameters: the data file of the probes
# of a dataset gives them. A range (low, high) holds neither of its ends.

Between = tuple[float, float]


def travels(
    d: Description, forward_speed: Between, turn: Between, drift: float = math.inf, running: bool | None = None
) -> bool:
    """Goes on foot at such speeds, turning so far; `drift`: most sideways speed, as a share of that along the facing.

    A body that glides does not walk: the legs stride. Running has a flight phase; a shuffling jog has none, but steps
    faster than any walk.
    """
    runs = d.flight > 0.045 or (d.forward_speed > 1.15 and d.cadence > 2.36)
    return (
        forward_speed[0] < d.forward_speed < forward_speed[1]
        and turn[0] < d.turn < turn[1]
        and abs(d.left_speed) < drift * abs(d.forward_speed)
        and d.stride > 0.2 and 0.7 < d.cadence < 4.5
        and running in (None, runs)
    )  # fmt: skip


def holds_up(
    d: Description, hands: Literal["left", "right", "both"], seconds: float, lift: float = -math.inf, swings: int = 0
) -> bool:
    """Holds up this hand and not the other, or both apart from each other, for so long, lifted and swung so far.

    On the spot and not bent over: arms that swing in a walk or hang from a bow are not raised hands. Fists of a fighter and
    hands on a sword are close to each other.
    """
    up = {"left": (LEFT,), "right": (RIGHT,), "both": (LEFT, RIGHT)}[hands]
    held = all(d.raised_seconds[i] >= seconds and d.wrist_lift[i] > lift and d.swings[i] >= swings for i in up)
    others = d.hands_apart > 0.3 if hands == "both" else d.wrist_top[1 - up[0]] < -0.18
    return d.speed < 0.35 and d.bow < 20 and held and others


def bows(d: Description, pitch: float, head: float, reach: float, speed: float) -> bool:
    """Down and up again on the spot, the head going with the trunk and no arm held out."""
    return d.bow > pitch and d.bow_head > head and d.bow_reach < reach and d.speed < speed


def punches(d: Description, stretch: float, speed: float) -> bool:
    return d.punch > stretch and d.speed < speed


def kicks(d: Description, height: float) -> bool:
    return d.kick > height


RULES = {rule.__name__: rule for rule in (travels, holds_up, bows, punches, kicks)}
