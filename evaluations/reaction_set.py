"""The recorded actions that models answer, each person of a pair being the one who acts in turn, and answers that need no model.

All is in the world of the one who acts: that person starts at the origin and faces +Z.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from data_loaders import headings, interhuman_features
from data_loaders.corpus import Corpus
from data_loaders.features import Features
from data_loaders.humanml_features import mirror_joints
from data_loaders.interaction_batches import InteractionDataset, Making
from data_loaders.interhuman_features import Floor, placement
from data_loaders.skeleton import Skeleton
from evaluations.interaction_set import FIRST, InteractionSet
from evaluations.motion_measures import body_axes

ORDERS = ("person 1 acts", "person 2 acts")
SHUFFLED, NEAREST = "reaction of another pair", "nearest training segment"
MEAN_POSE, MIRROR = "mean pose that faces the actor", "mirror image of the actor"
STRIDE = 0.5  # seconds between the windows of a training clip that are looked at
LOOKED_AT, CANDIDATES = 16, 8  # frames of a window that choose, and windows that all frames choose from
MOST_WINDOWS = 20_000  # of a training split; with more to look at, they begin farther apart


@dataclass(frozen=True)
class Segment:
    """A recorded action and its reaction. `rows` (T, 2 * width): features of both, the one who acts first."""

    name: str
    clip: int  # the same where either person of it acts
    order: int  # 0 or 1: of ORDERS
    rows: Tensor
    text: str
    features: Features

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def actor(self) -> Tensor:
        """Features (T, width)."""
        return self.rows[:, : self.features.width]

    @property
    def reaction(self) -> Tensor:
        """Features (T, width)."""
        return self.rows[:, self.features.width :]

    @cached_property
    def joints(self) -> np.ndarray:
        """Joints (2, T, J, 3) in metres of the actor and of the one who reacts."""
        return self.features.joints(self.rows).numpy()

    def answered(self, reaction: Tensor) -> Tensor:
        """Features (T', 2 * width) of the actor and of another reaction (T', width), which may be shorter."""
        return torch.cat([self.actor[: len(reaction)], reaction], dim=-1)

    def reaction_joints(self, reaction: Tensor) -> np.ndarray:
        """Joints (T', J, 3) in metres of a reaction (T', width)."""
        return self.features.joints(self.answered(reaction))[1].numpy()


def reaction_segments(data: InteractionSet, longest: int) -> list[Segment]:
    """Each described stretch from its beginning on, at most so many frames, first with person 1 acting, then with person 2."""
    return [
        Segment(entry.name, i, order, torch.from_numpy(data.motion(i, 0, int(min(data.lengths[i], longest)), order * FIRST)),
                entry.captions[0].text, data.features)
        for i, entry in enumerate(data.entries) for order in range(len(ORDERS))
    ]  # fmt: skip


def reactions_of_others(segments: Sequence[Segment], samples: int, rng: np.random.Generator) -> list[list[Tensor]]:
    """For each segment the reactions of up to so many others of the same order, as they stood to their own actors: cut to its
    frames, out of those that are as long where there are any. None where there is no other."""
    made = []
    for own in segments:
        others = [each for each in segments if each.order == own.order and each.clip != own.clip]
        others = [each for each in others if len(each) >= len(own)] or others
        chosen = rng.permutation(len(others))[:samples]
        made.append([others[k].reaction[: len(own)] for k in chosen])
    return made


class TrainingPairs:
    """What is learnt from a train split without a model: how far apart people are, their mean pose, and reactions by heart."""

    def __init__(self, corpus: Corpus, floor: Floor):
        """FileNotFoundError or ValueError where the dataset has no train split that can be used."""
        data = InteractionDataset(corpus, "train", Making(exchange=False), mirror=False)
        self.features, self.floor = corpus.features, floor
        self.rows = [torch.from_numpy(np.array(corpus[each.clip][each.start : each.stop], np.float32)) for each in data.examples]
        self.joints = [self.features.joints(rows) for rows in self.rows]  # (2, T, J, 3) each

    @cached_property
    def distance(self) -> float:
        """Mean distance of the pelvises over the floor, metres."""
        apart = [(both[0, :, 0] - both[1, :, 0])[:, [0, 2]].norm(dim=-1) for both in self.joints]
        return torch.cat(apart).mean().item()

    @cached_property
    def pose(self) -> Tensor:
        """Mean joints (J, 3) of all people, the pelvis over the origin, facing +Z."""
        body = self.features.body
        return torch.cat([from_their_start(both.flatten(0, 1)[:, None], body)[:, 0] for both in self.joints]).mean(0)

    def mean_pose(self, segment: Segment) -> Tensor:
        """A reaction (T, width): the mean pose, as far ahead of the actor as people are on average, facing the actor."""
        actor = all_frames(segment)
        _, forward, _ = body_axes(actor.numpy().astype(np.float64), self.features.fps)
        forward = torch.from_numpy(forward).float()  # (T+1, 3)
        place = actor[:, 0] * torch.tensor([1.0, 0.0, 1.0]) + self.distance * forward
        facing = torch.complex(-forward[:, 2], -forward[:, 0])
        turned = headings.turn(self.pose[..., None].expand(-1, -1, len(place)).contiguous(), facing.conj()).permute(2, 0, 1)
        return features_of_joints(turned + place[:, None], self.features)

    def mirror(self, segment: Segment) -> Tensor:
        """A reaction (T, width): what the actor would see in a mirror half as far ahead as people are apart."""
        image = mirror_joints(all_frames(segment), self.features.body) * torch.tensor([-1.0, 1.0, -1.0])  # along z in place of x
        return features_of_joints(image + torch.tensor([0.0, 0.0, self.distance]), self.features)

    def nearest(self, segment: Segment) -> Tensor:
        """The reaction (T, width) to the training action that is nearest by the mean distance of its joints, both from where they
        start on, moved along with it. Shorter where no training segment is as long."""
        frames = min(len(segment), max(map(len, self.rows)))
        query = torch.from_numpy(segment.joints[0, :frames])
        some = torch.linspace(0, frames - 1, min(LOOKED_AT, frames)).long()
        found: list[tuple[float, int, int, int]] = []  # distance, clip, who acts, first frame
        for clip, both in enumerate(self.joints):
            if both.shape[1] < frames:
                continue
            starts = torch.arange(0, both.shape[1] - frames + 1, self.stride)
            for person in range(2):
                windows = both[person][starts[:, None] + some]  # (W, K, J, 3)
                apart = (from_their_start(windows, self.features.body) - query[some]).norm(dim=-1).mean((1, 2))
                found += [(gap, clip, person, start) for gap, start in zip(apart.tolist(), starts.tolist())]
        found.sort()

        def gap(place: tuple[float, int, int, int]) -> float:
            _, clip, person, start = place
            window = self.joints[clip][person, None, start : start + frames]
            return (from_their_start(window, self.features.body)[0] - query).norm(dim=-1).mean().item()

        _, clip, person, start = min(found[:CANDIDATES], key=gap)
        rows = self.rows[clip][start : start + frames]
        rows = interhuman_features.exchanged(rows, self.features) if person else rows
        return interhuman_features.from_start(rows, self.features, self.floor)[:, self.features.width :]

    @cached_property
    def stride(self) -> int:
        """Frames between the windows that `nearest` looks at."""
        total = 2 * sum(map(len, self.rows))
        return max(round(STRIDE * self.features.fps), -(-total // MOST_WINDOWS), 1)


def all_frames(segment: Segment) -> Tensor:
    """Joints (T+1, J, 3) of the actor, the frame after the last row among them."""
    return interhuman_features.all_joints(segment.rows, segment.features)[0]


def features_of_joints(joints: Tensor, features: Features) -> Tensor:
    """Features (T, width) of one person's joints (T+1, J, 3) where they are, rotations solved."""
    rotations = interhuman_features.solved_rotations(joints, features.body)
    return interhuman_features.features_of(joints, rotations.clone(), features.body)


def from_their_start(windows: Tensor, skeleton: Skeleton) -> Tensor:
    """Windows (N, T, J, 3) of one person, each moved so that it starts at the origin and faces +Z."""
    start = placement(windows, skeleton)
    moved = (windows - start.origin[:, None, None]).permute(1, 2, 3, 0)  # (T, J, 3, N)
    return headings.turn(moved.contiguous(), start.facing).permute(3, 0, 1, 2)
