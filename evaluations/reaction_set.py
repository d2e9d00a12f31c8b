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
from data_loaders.corpus import Corpus, require_finite
from data_loaders.features import Features
from data_loaders.humanml_features import mirror_joints
from data_loaders.interaction_batches import InteractionDataset, Making
from data_loaders.interhuman_features import Floor, features_of_joints, placement
from data_loaders.skeleton import Skeleton
from evaluations.interaction_set import FIRST, InteractionSet
from evaluations.motion_measures import body_axes

ORDERS = ("person 1 acts", "person 2 acts")
SHUFFLED, NEAREST = "reaction of another pair", "nearest training segment"
MEAN_POSE, MIRROR = "mean pose that faces the actor", "mirror image of the actor"
STRIDE = 0.5  # seconds between the windows of a training clip that are looked at
LOOKED_AT, CANDIDATES = 16, 8  # frames of a window that choose, and windows that all frames choose from
MOST_POSES = 100_000  # frames that are averaged
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
        self.corpus, self.features, self.floor = corpus, corpus.features, floor
        self.examples = InteractionDataset(corpus, "train", Making(exchange=False), mirror=False).examples
        self.lengths = np.array([each.stop - each.start for each in self.examples])
        self.begin = np.cumsum(self.lengths) - self.lengths  # of each in `joints`
        self.joints = torch.cat([self.features.joints(self.rows(k, 0, None)) for k in range(len(self.examples))], dim=1)

    def rows(self, example: int, start: int, frames: int | None) -> Tensor:
        """Features (T, 2 * width) of a described stretch from one of its frames on."""
        each = self.examples[example]
        stop = each.stop if frames is None else each.start + start + frames
        rows = require_finite(self.corpus[each.clip][each.start + start : stop],
                              f"{self.corpus.folder}: {self.corpus.names[each.clip]}")  # fmt: skip
        return torch.from_numpy(np.array(rows, np.float32))

    @cached_property
    def some(self) -> Tensor:
        """Joints (2, N, J, 3) of frames all over the split, not too many to average."""
        return self.joints[:, :: max(1, self.joints.shape[1] // MOST_POSES)]

    @cached_property
    def distance(self) -> float:
        """Mean distance of the pelvises over the floor, metres."""
        return (self.some[0, :, 0] - self.some[1, :, 0])[:, [0, 2]].norm(dim=-1).mean().item()

    @cached_property
    def pose(self) -> Tensor:
        """Mean joints (J, 3) of all people, the pelvis over the origin, facing +Z."""
        return from_their_start(self.some.flatten(0, 1)[:, None], self.features.body).mean((0, 1))

    @cached_property
    def windows(self) -> tuple[Tensor, Tensor]:
        """Frames of `joints` at which the windows begin that `nearest` looks at, and how many frames their stretches have left
        there, (W,) each."""
        stride = max(round(STRIDE * self.features.fps), -(-2 * int(self.lengths.sum()) // MOST_WINDOWS))
        starts = [np.arange(0, length, stride) for length in self.lengths]
        begin = np.concatenate([first + each for first, each in zip(self.begin, starts)])
        left = np.concatenate([length - each for length, each in zip(self.lengths, starts)])
        return torch.from_numpy(begin), torch.from_numpy(left)

    def mean_pose(self, segment: Segment) -> Tensor:
        """A reaction (T, width): the mean pose, in every frame as far ahead of the actor as people are on average, facing the
        actor."""
        actor = all_frames(segment)
        _, forward, _ = body_axes(actor.numpy().astype(np.float64), self.features.fps)
        forward = torch.from_numpy(forward).float()  # (T+1, 3)
        place = actor[:, 0] * torch.tensor([1.0, 0.0, 1.0]) + self.distance * forward
        facing = torch.complex(-forward[:, 2], -forward[:, 0])
        turned = headings.turn(self.pose[..., None].expand(-1, -1, len(place)).contiguous(), facing.conj()).permute(2, 0, 1)
        return features_of_joints(turned + place[:, None], self.features.body)

    def mirror(self, segment: Segment) -> Tensor:
        """A reaction (T, width): what the actor would see in a mirror half as far ahead as people are apart."""
        image = mirror_joints(all_frames(segment), self.features.body) * torch.tensor([-1.0, 1.0, -1.0])  # along z in place of x
        return features_of_joints(image + torch.tensor([0.0, 0.0, self.distance]), self.features.body)

    def nearest(self, segment: Segment) -> Tensor:
        """The reaction (T, width) to the training action that is nearest by the mean distance of its joints, both from where they
        start on, moved along with it. Shorter where no training stretch is as long."""
        frames = min(len(segment), int(self.lengths.max()))
        query, (begin, left) = torch.from_numpy(segment.joints[0, :frames]), self.windows
        begin, looked_at = begin[left >= frames], torch.linspace(0, frames - 1, min(LOOKED_AT, frames)).long()

        def apart(person: int, begin: Tensor, at: Tensor) -> Tensor:
            found = from_their_start(self.joints[person][begin[:, None] + at], self.features.body)  # (W, K, J, 3)
            return (found - query[at]).norm(dim=-1).mean((1, 2))

        roughly = torch.stack([apart(person, begin, looked_at) for person in range(2)]).flatten()  # (2 W,)
        likely = roughly.topk(min(CANDIDATES, len(roughly)), largest=False).indices
        exactly = [apart(int(k) // len(begin), begin[k % len(begin)][None], torch.arange(frames)).item() for k in likely]
        best = int(likely[int(np.argmin(exactly))])
        first = int(begin[best % len(begin)])
        example = int(np.searchsorted(self.begin, first, side="right")) - 1
        rows = self.rows(example, first - int(self.begin[example]), frames)
        rows = interhuman_features.exchanged(rows, self.features) if best >= len(begin) else rows
        return interhuman_features.from_start(rows, self.features, self.floor)[:, self.features.width :]


def all_frames(segment: Segment) -> Tensor:
    """Joints (T+1, J, 3) of the actor, the frame after the last row among them."""
    return interhuman_features.all_joints(segment.rows, segment.features)[0]


def from_their_start(windows: Tensor, skeleton: Skeleton) -> Tensor:
    """Windows (N, T, J, 3) of one person, each moved so that it starts at the origin and faces +Z."""
    start = placement(windows, skeleton)
    moved = (windows - start.origin[:, None, None]).permute(1, 2, 3, 0)  # (T, J, 3, N)
    return headings.turn(moved.contiguous(), start.facing).permute(3, 0, 1, 2)
