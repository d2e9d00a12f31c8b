"""What a person does, read from joints with plain geometry: the measures that the rules of probes bound.

Everything is measured relative to the body, so world position and heading do not matter. Thresholds in here hold for the target
body of humanml (shoulder to wrist 0.53 m, hip to ankle 0.82 m); `eval_probes --validate` shows what they are worth.
"""

import numpy as np
from scipy.ndimage import binary_closing, gaussian_filter1d, label, minimum_filter1d, uniform_filter1d

PELVIS, L_HIP, R_HIP, L_ANKLE, R_ANKLE, CHEST, NECK, HEAD = 0, 1, 2, 7, 8, 9, 12, 15
L_SHOULDER, R_SHOULDER, L_ELBOW, R_ELBOW, L_WRIST, R_WRIST = 16, 17, 18, 19, 20, 21
ARMS = {"left": (L_SHOULDER, L_ELBOW, L_WRIST), "right": (R_SHOULDER, R_ELBOW, R_WRIST)}
LEGS = (L_HIP, L_ANKLE), (R_HIP, R_ANKLE)
FEET = [7, 10, 8, 11]

RAISED = -0.10  # wrist height over the shoulder (m): graceful raises in the corpus stop right at the shoulder
AIRBORNE = 0.04  # both feet this far (m) over their usual lowest height: a flight phase
PLANTED = 0.5  # a foot slower than this (m/s) stands, however high: floors are captured a little aslant
LEG_STRAIGHT = 0.62  # hip to ankle (m): a kick has a straight leg, the heel of a runner comes up with a bent one
HIGH_UP = 0.45  # both feet this far (m) over the floor: on something that is climbed
STEPPING = 0.5  # an ankle faster than this (m/s) takes a step

MEASURES = {
    "seconds": "length of the motion",
    "speed": "of the root along its path, m/s",
    "forward_speed": "of the root along the body's own facing, frame by frame: negative when backing up, m/s",
    "left_speed": "the same to its left",
    "drift": "sideways speed as a share of that along the facing",
    "turn": "from the mean facing of the first moments to that of the last ones, left positive, degrees",
    "braking": "how much slower the root is at a moment than at one before it, m/s",
    "slowest": "of its speed, over moments of 0.3 s, m/s",
    "turning": "how far the facing turns in a second, to and fro counted, degrees",
    "net_travel": "distance of the end from the start, as a share of the path of the root",
    "flight": "share of frames with both feet in the air",
    "cadence": "steps per second: how often the ankles pass each other",
    "stride": "how far apart the ankles get, m",
    "steps": "per second: how often an ankle starts to move",
    "jump": "how far the pelvis rises over its usual height in flights of at most a second, m",
    "feet_lift": "how far both feet get over the ground in them, m",
    "aloft_seconds": "time that both feet are high over the floor (height 0), the pelvis over them",
    "raised_seconds_left": "time that the wrist is at least as high as the shoulder",
    "raised_seconds_right": "the same of the right hand",
    "wrist_top_left": "highest the wrist gets over the shoulder, m",
    "wrist_top_right": "the same of the right hand",
    "wrist_lift_left": "difference between its highest and lowest, m",
    "wrist_lift_right": "the same of the right hand",
    "hands_apart": "distance of the wrists while both are raised, 0 where they never are, m",
    "swings_left": "changes of direction of the raised wrist, sideways around the elbow",
    "swings_right": "the same of the right hand",
    "hand_speed": "of the faster wrist relative to the chest, at its brisk moments (90 % of frames are slower), m/s",
    "bow": "how far the trunk pitches forward beyond where it starts and ends, degrees",
    "bow_head": "pitch of the head over that of the upper trunk, at the deepest point, degrees",
    "bow_reach": "how far a wrist is held out in front of its shoulder there, m",
    "punch": "longest quick stretch of an arm at shoulder height, from a bent elbow, m",
    "bounces": "per second: how often a hand turns up or down that is held before the hip and moves more so than to and fro",
    "kick": "how far a nearly straight leg lifts its ankle over the other within 0.4 s, the head up, m",
    "leg_swing": "of an ankle forward relative to the pelvis, at its fastest, the head up, m/s",
    "head_start": "height of the head over the lowest joint of the motion in its first quarter of a second, m",
    "head_end": "the same in its last",
    "dip": "how far the head sinks under where it starts and ends, m",
    "pelvis_lowest": "lowest height of the pelvis over the lowest joint of the motion, m",
    "upside_down": "how far the head gets under the pelvis, negative where it stays over it, m",
}
Measures = dict[str, float]  # a number for each of MEASURES


def describe(joints: np.ndarray, fps: float) -> Measures | None:
    """Measures of joints (T, 22, 3) in metres, Y up, 22-joint HumanML3D skeleton. None for fewer than 8 frames or where a value
    is not finite: such a motion does nothing that could be named. ValueError for other shapes."""
    joints = np.asarray(joints, dtype=np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (22, 3):
        raise ValueError(f"joints have shape {joints.shape}, probes expect (frames, 22, 3)")
    if len(joints) < 8 or not np.isfinite(joints).all():
        return None
    steady = _smooth(joints, 0.035 * fps)
    yaw, forward, left = body_axes(steady, fps)
    found = {
        "seconds": len(joints) / fps,
        **_travel(joints, yaw, forward, left, fps),
        **_gait(steady, forward, fps),
        **_off_the_floor(steady, fps),
        **_hands(joints, steady, fps),
        **_trunk(steady, forward, fps),
        **_head_and_pelvis(steady, fps),
        "punch": max(_punch(steady, shoulder, wrist, fps) for shoulder, _, wrist in ARMS.values()),
        "bounces": max(_bounces(steady, wrist, fps) for _, _, wrist in ARMS.values()),
        **_legs(steady, forward, fps),
    }
    return {name: float(found[name]) for name in MEASURES}


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter1d(values, sigma, axis=0, mode="nearest")


def body_axes(joints: np.ndarray, fps: float, seconds: float = 0.15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Yaw (T,) in radians, continuous, left positive; unit forward (T, 3) and left (T, 3), from hips and shoulders."""
    across = joints[:, L_HIP] - joints[:, R_HIP] + joints[:, L_SHOULDER] - joints[:, R_SHOULDER]
    across = _smooth(across, seconds * fps)
    yaw = np.unwrap(np.arctan2(-across[:, 2], across[:, 0]))
    sin, cos, zero = np.sin(yaw), np.cos(yaw), np.zeros_like(yaw)
    return yaw, np.stack([sin, zero, cos], -1), np.stack([cos, zero, -sin], -1)


def _mean_over(values: np.ndarray, frames: float) -> np.ndarray:
    """Running mean of values (T,) over so many frames, as many at the ends as there are."""
    return uniform_filter1d(values, max(1, round(frames)), mode="nearest")


def _speed(points: np.ndarray, fps: float) -> np.ndarray:
    """Speed (T, K) in m/s of points (T, K, 3)."""
    return np.linalg.norm(np.gradient(points, axis=0), axis=-1) * fps


def _along(vectors: np.ndarray, axis: np.ndarray) -> np.ndarray:
    return np.einsum("td,td->t", vectors, axis)


def _travel(joints: np.ndarray, yaw: np.ndarray, forward: np.ndarray, left: np.ndarray, fps: float) -> Measures:
    velocity = np.diff(_smooth(joints[:, PELVIS], 0.12 * fps), axis=0) * fps  # (T-1, 3): sway of the steps taken out
    ends = max(1, min(round(0.4 * fps), len(yaw) // 4))
    ahead, aside = _along(velocity, forward[:-1]).mean(), _along(velocity, left[:-1]).mean()
    speed = np.hypot(velocity[:, 0], velocity[:, 2])  # (T-1,)
    calm = _mean_over(speed, 0.3 * fps)
    start_to_end = np.linalg.norm(velocity[:, [0, 2]].sum(axis=0))
    return {
        "speed": speed.mean(),
        "forward_speed": ahead,
        "left_speed": aside,
        "drift": abs(aside) / max(abs(ahead), 1e-9),
        "turn": np.degrees(yaw[-ends:].mean() - yaw[:ends].mean()),
        "braking": (np.maximum.accumulate(calm) - calm).max(),
        "slowest": calm.min(),
        "turning": np.degrees(np.abs(np.diff(yaw)).mean()) * fps,
        "net_travel": start_to_end / max(speed.sum(), 1e-9),
    }


def _gait(joints: np.ndarray, forward: np.ndarray, fps: float) -> Measures:
    apart = _along(joints[:, L_ANKLE] - joints[:, R_ANKLE], forward)
    apart = _smooth(apart - apart.mean(), 0.05 * fps)
    stepping = _speed(joints[:, [L_ANKLE, R_ANKLE]], fps) > STEPPING  # (T, 2)
    return {
        "cadence": np.count_nonzero(np.diff(np.signbit(apart))) * fps / len(apart),
        "stride": np.percentile(np.abs(apart), 95),
        "steps": np.count_nonzero(stepping[1:] & ~stepping[:-1]) * fps / len(joints),
    }


def _off_the_floor(joints: np.ndarray, fps: float) -> Measures:
    feet, pelvis = joints[:, FEET], joints[:, PELVIS, 1]
    lowest_foot = feet[..., 1].min(axis=1)
    lift = lowest_foot - np.percentile(lowest_foot, 5)
    moving = (lift > AIRBORNE) & (_speed(feet, fps).min(axis=1) > PLANTED)
    air = moving | (lift > AIRBORNE) & binary_closing(moving, np.ones(round(0.15 * fps) + 1))  # slow at the height of a jump
    flight, _ = label(air)  # number of the flight that a frame is in, 0 for none
    jump = air & (np.bincount(flight)[flight] <= fps)  # who hangs or stands on his hands is longer off the floor
    usual = np.percentile(pelvis[~air], 75) if not air.all() else np.inf
    return {
        "flight": air.mean(),
        "jump": max(0.0, pelvis[jump].max() - usual) if jump.any() else 0.0,
        "feet_lift": lift[jump].max() if jump.any() else 0.0,
        "aloft_seconds": ((lowest_foot > HIGH_UP) & (pelvis - lowest_foot > 0.2)).sum() / fps,
    }


def _hands(joints: np.ndarray, steady: np.ndarray, fps: float) -> Measures:
    _, _, left = body_axes(steady, fps, seconds=1.0)  # a calm frame: a waving arm also twists the shoulders
    both_up, found = np.ones(len(joints), dtype=bool), {}
    for side, (shoulder, elbow, wrist) in ARMS.items():
        height = steady[:, wrist, 1] - steady[:, shoulder, 1]
        low, top = np.percentile(height, [3, 97])
        up = np.flatnonzero(height > max(RAISED, top - 0.20))
        sideways = _along(steady[:, wrist] - steady[:, elbow], left)
        both_up &= height > RAISED
        found |= {
            f"raised_seconds_{side}": (height > RAISED).sum() / fps,
            f"wrist_top_{side}": top,
            f"wrist_lift_{side}": top - low,
            f"swings_{side}": reversals(sideways[up[0] : up[-1] + 1], 0.025) if len(up) else 0,
        }
    apart = np.linalg.norm(joints[both_up, L_WRIST] - joints[both_up, R_WRIST], axis=-1)
    wrists = np.diff(steady[:, [L_WRIST, R_WRIST]] - steady[:, [CHEST]], axis=0)
    brisk = np.percentile(np.linalg.norm(wrists, axis=-1).max(axis=1), 90) * fps
    return {**found, "hands_apart": np.median(apart) if len(apart) else 0.0, "hand_speed": brisk}


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


def _trunk(joints: np.ndarray, forward: np.ndarray, fps: float) -> Measures:
    def pitch(lower: int, upper: int) -> np.ndarray:
        bone = joints[:, upper] - joints[:, lower]
        return np.degrees(np.arctan2(_along(bone, forward), bone[:, 1]))

    trunk = pitch(PELVIS, NECK)
    deepest = int(trunk.argmax())
    ends = max(1, round(0.15 * fps))
    peak = np.percentile(trunk, 97)
    around = slice(max(0, deepest - ends), deepest + ends + 1)
    reach = [_along(joints[:, wrist] - joints[:, shoulder], forward)[around].mean() for shoulder, _, wrist in ARMS.values()]
    return {
        "bow": peak - max(trunk[:ends].mean(), trunk[-ends:].mean()),
        "bow_head": (pitch(NECK, HEAD) - pitch(CHEST, NECK))[around].mean(),
        "bow_reach": max(reach),
    }


def _punch(joints: np.ndarray, shoulder: int, wrist: int, fps: float) -> float:
    """Longest gain (m) in the distance of wrist and shoulder within 0.25 s that starts from a bent arm and ends with a
    long one, the wrist near shoulder height all along."""
    arm = joints[:, wrist] - joints[:, shoulder]
    reach = np.linalg.norm(arm, axis=-1)
    level = np.abs(arm[:, 1]) < 0.25
    best = 0.0
    for gap in range(2, min(max(3, round(0.25 * fps) + 1), len(reach))):
        valid = level[gap:] & level[:-gap] & (reach[:-gap] < 0.38) & (reach[gap:] > 0.42)
        best = max(best, float(np.where(valid, reach[gap:] - reach[:-gap], 0.0).max()))
    return best


def _bounces(joints: np.ndarray, wrist: int, fps: float) -> float:
    """Changes of direction (per second, of at least 0.1 m) of a wrist up and down, as over a ball; 0 where it is not about hip
    height and before the body, or swings to and fro by as much, as the arms of a walk do."""
    _, forward, _ = body_axes(joints, fps, seconds=0.5)
    hand = joints[:, wrist] - joints[:, PELVIS]
    up, ahead = hand[:, 1], _along(hand, forward)
    held = -0.12 <= np.median(up) <= 0.18 and np.median(ahead) >= 0.05
    return reversals(up, 0.10) * fps / len(joints) if held and up.std() >= 1.08 * ahead.std() else 0.0


def _legs(joints: np.ndarray, forward: np.ndarray, fps: float) -> Measures:
    hips, ankles = (joints[:, list(each)] for each in zip(*LEGS))  # (T, 2, 3)
    upright = (joints[:, [HEAD], 1] - joints[:, [PELVIS], 1]) > 0.2  # (T, 1)
    straight = np.linalg.norm(ankles - hips, axis=-1) > LEG_STRAIGHT
    height = ankles[..., 1]  # (T, 2)
    risen = height - minimum_filter1d(height, (back := round(0.4 * fps)) + 1, axis=0, mode="nearest", origin=back // 2)
    lift = np.minimum(height - height[:, ::-1], risen)
    swing = np.einsum("tkd,td->tk", np.gradient(ankles - joints[:, [PELVIS]], axis=0), forward) * fps
    return {
        "kick": np.where(straight & upright, lift, 0.0).max(),
        "leg_swing": np.where(upright, swing, 0.0).max(),
    }


def _head_and_pelvis(joints: np.ndarray, fps: float) -> Measures:
    floor, ends = joints[..., 1].min(), max(1, round(0.25 * fps))
    head, pelvis = joints[:, HEAD, 1] - floor, joints[:, PELVIS, 1] - floor
    return {
        "head_start": head[:ends].mean(),
        "head_end": head[-ends:].mean(),
        "dip": min(head[:ends].max(), head[-ends:].max()) - head.min(),
        "pelvis_lowest": pelvis.min(),
        "upside_down": (pelvis - head).max(),
    }
