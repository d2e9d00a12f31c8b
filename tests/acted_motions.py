"""Motions as a person would act them, made of stiff limbs: joints (T, 22, 3) in metres at 20 fps, facing +Z."""

import numpy as np
import torch

from data_loaders.humanml_features import mirror_joints
from data_loaders.skeleton import load_skeleton
from tests.synthetic import standing, turn, walk

FPS = 20.0
HUMANML = load_skeleton("humanml")
LEGS = {"pelvis"} | {f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "foot")}
UPPER_BODY = [j for j, name in enumerate(HUMANML.joint_names) if name not in LEGS]


def mirrored(joints: np.ndarray) -> np.ndarray:
    return mirror_joints(torch.from_numpy(np.ascontiguousarray(joints)), HUMANML).numpy()


def held(num_frames: int) -> np.ndarray:
    """Somebody who stands still."""
    return np.repeat(standing()[None], num_frames, axis=0)


def grounded(joints: np.ndarray) -> np.ndarray:
    """The same poses with the lower foot on the floor in every frame."""
    joints = joints.copy()
    joints[..., 1] -= joints[..., 1].min(axis=1, keepdims=True)
    return joints


def walking(speed: float = 1.0, num_frames: int = 100) -> np.ndarray:
    return grounded(walk(num_frames, speed))


def running(speed: float = 2.6, num_frames: int = 70) -> np.ndarray:
    """Stiff legs that swing without the hips sinking leave the ground whenever they are apart."""
    return walk(num_frames, speed)


def round_the_corner(joints: np.ndarray, degrees: float) -> np.ndarray:
    """A straight walk along +Z bent to the left, so that it ends `degrees` from where it was heading."""
    angle = np.radians(degrees) * np.clip(np.linspace(-0.5, 1.5, len(joints)), 0, 1)
    step = np.diff(joints[:, 0, 2], prepend=joints[0, 0, 2])
    path = np.stack([np.cumsum(step * np.sin(angle)), np.cumsum(step * np.cos(angle))], -1)
    local = joints - joints[:, :1] * np.array([1.0, 0.0, 1.0])
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    bent = local.copy()
    bent[..., 0] = cos * local[..., 0] + sin * local[..., 2] + path[:, :1]
    bent[..., 2] = -sin * local[..., 0] + cos * local[..., 2] + path[:, 1:]
    return bent


def waving(side: str = "left", num_frames: int = 120, swing: float = 0.10) -> np.ndarray:
    """One arm held up, its forearm swinging sideways at 1.5 Hz."""
    joints = held(num_frames)
    elbow, wrist = (HUMANML.index(f"{side}_{part}") for part in ("elbow", "wrist"))
    turn(joints, HUMANML.index(f"{side}_shoulder"), [elbow, wrist], np.full(num_frames, 2.8))
    joints[:, wrist, 0] += swing * np.sin(2 * np.pi * 1.5 * np.arange(num_frames) / FPS)
    return joints


def bowing(degrees: float = 50.0, num_frames: int = 90) -> np.ndarray:
    joints = held(num_frames)
    turn(joints, 0, UPPER_BODY, -np.radians(degrees) * np.sin(np.pi * np.arange(num_frames) / (num_frames - 1)))
    return joints


def both(motion, **kwargs) -> np.ndarray:
    """A one-handed motion done with both hands: the right arm copied from the right-handed one."""
    left, right = motion(side="left", **kwargs), motion(side="right", **kwargs)
    arm = [HUMANML.index(f"right_{part}") for part in ("elbow", "wrist")]
    left[:, arm] = right[:, arm] - np.array([0.05, 0.0, 0.0])  # the drawn body is narrow at the shoulders
    return left


def airborne(joints: np.ndarray, start: int, num_frames: int, height: float) -> np.ndarray:
    """The same with a flight in it: the whole body goes up and down again on a parabola."""
    joints = joints.copy()
    phase = np.linspace(-1, 1, num_frames)
    joints[start : start + num_frames, :, 1] += (height * (1 - phase**2))[:, None]
    return joints


def jumping(height: float = 0.4) -> np.ndarray:
    return airborne(held(60), 25, 12, height)


def leaping() -> np.ndarray:
    return airborne(grounded(walk(40, 2.5)), 15, 11, 0.45)


def swinging_a_leg(start: float, end: float, num_frames: int) -> np.ndarray:
    """The straight right leg goes from one angle to another (radians, forward positive) within so many frames, and down again."""
    joints = held(50)
    leg = [HUMANML.index(f"right_{part}") for part in ("knee", "ankle", "foot")]
    frames = [0, 14, 20, 20 + num_frames, 26 + num_frames, 44]
    turn(joints, HUMANML.index("right_hip"), leg, np.interp(np.arange(50), frames, [0, 0, start, end, end, 0]))
    return joints


def tipped(joints: np.ndarray, degrees: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
    """The stiff body turned by an angle per frame in the plane of two axes, its lowest joint on the floor."""
    a, b = axes
    angle = np.radians(degrees)[:, None]
    tipped = joints.copy()
    tipped[..., a] = np.cos(angle) * joints[..., a] - np.sin(angle) * joints[..., b]
    tipped[..., b] = np.sin(angle) * joints[..., a] + np.cos(angle) * joints[..., b]
    return grounded(tipped)


def getting_up() -> np.ndarray:
    """Lies on the back, then rises like a plank and stands."""
    return tipped(held(80), np.interp(np.arange(80), [0, 20, 50], [90, 90, 0]), (2, 1))


def cartwheeling() -> np.ndarray:
    """Once round sideways, arms and legs stretched."""
    return tipped(held(60), np.interp(np.arange(60), [0, 15, 45], [0, 0, 360]), (0, 1))


def climbing() -> np.ndarray:
    """Up to where the feet are 0.8 m high, there for two seconds, and down."""
    joints = held(120)
    joints[..., 1] += np.interp(np.arange(120), [20, 50, 90, 115], [0, 0.8, 0.8, 0])[:, None]
    return joints


def dribbling(to_and_fro: float = 0.0) -> np.ndarray:
    """Walks slowly, one hand up and down before the hip (or also to and fro) 1.2 times a second."""
    joints = grounded(walk(80, 0.5))
    wave = 0.12 * np.sin(2 * np.pi * 1.2 * np.arange(80) / FPS)
    wrist = HUMANML.index("right_wrist")
    joints[:, wrist] = joints[:, 0] + np.stack([np.full(80, -0.25), 0.05 + wave, 0.3 + to_and_fro * wave], axis=1)
    return joints


def running_then_standing() -> np.ndarray:
    return np.concatenate([run := running(2.8, 40), np.repeat(run[-1:], 30, axis=0)])


def ducking_in_a_run() -> np.ndarray:
    joints = running(2.6, 50)
    turn(joints, 0, UPPER_BODY, -np.radians(80) * np.clip(np.sin(np.linspace(-np.pi, 2 * np.pi, 50)), 0, 1))
    return joints
