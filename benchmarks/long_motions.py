"""python -m benchmarks.long_motions: how a long motion holds together where one text passes over into the next.

Composes a timeline with several seeds and sets side by side the physics of its transitions, half a second on either side of where
a text ends, of what lies between them, and of the same texts made as clips of their own; says what it costs.
"""

import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from protos.flags import REPLICATIONS, SEED, Range
from protos.options import command, run_command
from sample.exports import CleanupSettings
from sample.generation import STARTER

if TYPE_CHECKING:
    import numpy as np

NEAR = 0.5  # seconds about the end of a text that count as its transition
MOST_JERK, MOST_SLIDING = 1.3, 1.5  # of transitions, times those between
MINUTE = (  # a text of the starter's and its seconds
    ("a person walks forward", 6), ("a person waves the right hand", 5), ("a person runs", 5), ("a person bows", 5),
    ("a person walks forward and turns left", 6), ("a person walks happily", 7), ("a person raises the left hand", 5),
    ("a person runs fast", 5), ("a person walks like an old man", 6), ("someone waves with both hands", 5),
    ("a person walks forward and turns right", 5),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LongMotionOptions(CleanupSettings):
    """Measure long motions."""

    model_path: Path = STARTER
    """Checkpoint of a model that makes long motions."""
    timeline: Path | None = None
    """Timeline to compose (default: a minute of eleven texts)."""
    seeds: Annotated[int, REPLICATIONS] = 3
    """Motions of it."""
    seed: Annotated[int, SEED] = 0
    """First seed."""
    times: Annotated[int, Range(1, 1000)] = 1
    """How often the timeline is repeated in each: what is held in memory must not grow with it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""


def cut_apart(joints: "np.ndarray", ends: list[int], near: int) -> tuple[list, list]:
    """Stretches of joints (T, J, 3) around the frames where passages end, and those between."""
    around = [joints[end - near : end + near] for end in ends[:-1]]
    starts = [0, *(end + near for end in ends[:-1])]
    return around, [joints[start : stop] for start, stop in zip(starts, [*(end - near for end in ends[:-1]), len(joints)])]


def run(options: LongMotionOptions) -> None:
    """Prints the tables."""
    from itertools import accumulate

    import numpy as np

    from data_loaders.physics import physics_of, physics_table
    from model.capabilities import Composes, Decoding, Request
    from model.checkpoints import from_pretrained
    from model.registry import able
    from protos.processes import pick_device
    from sample.generation import motions_for
    from sample.long_motion import composed
    from sample.timeline import Said, Timeline, read_timeline

    if options.timeline is None:
        ends = list(accumulate(seconds for _, seconds in MINUTE))
        base = tuple(Said(1, text, end - seconds, end) for (text, seconds), end in zip(MINUTE, ends))
        timeline = Timeline(base, ())
    else:
        timeline = read_timeline(options.timeline)
    length = timeline.seconds
    timeline = replace(timeline, base=tuple(
        replace(said, start=said.start + turn * length, end=said.end + turn * length)
        for turn in range(options.times) for said in timeline.base
    ))  # fmt: skip
    model = from_pretrained(options.model_path, pick_device(options.device), systems=able(Composes))
    features, cleanup = model.features, options.cleanup_of(model)
    passages = timeline.passages(features.fps)
    ends = list(accumulate(passage.frames for passage in passages))
    around, between, clips, largest, spent = [], [], [], 0, 0.0
    for seed in range(options.seed, options.seed + options.seeds):
        began, pieces = time.process_time(), []
        for piece in composed(model, timeline, seed, cleanup=cleanup):
            pieces.append(piece)
            largest = max(largest, len(piece))
        spent += time.process_time() - began
        near, far = cut_apart(np.concatenate(pieces), ends, round(NEAR * features.fps))
        around, between = [*around, *near], [*between, *far]
        longest = model.config.max_frames
        requests = [Request(passage.text, min(passage.frames, longest), seed) for passage in passages]
        clips += [motion.joints[0] for motion in motions_for(model, requests, Decoding(), progress=False, cleanup=cleanup)]
    sets = {"transitions": around, "between": between, "clips": clips}
    physics = {name: physics_of(motions, features.fps, features.body) for name, motions in sets.items()}
    print(physics_table(physics))
    for key, most in (("jerk", MOST_JERK), ("planted_foot_speed", MOST_SLIDING)):
        ratios = [physics["transitions"][key] / physics[other][key] for other in ("between", "clips")]
        print(f"{key}: transitions {ratios[0]:.2f} times between, {ratios[1]:.2f} times clips (at most {most:g})")
    print(f"{spent / options.seeds:.1f} CPU s for {ends[-1] / features.fps:.0f} s of motion; largest piece {largest} frames; "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")  # fmt: skip


main = command(LongMotionOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
