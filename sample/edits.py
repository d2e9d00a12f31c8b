"""A motion edited in words: codes of its poses change, a model makes poses of both codes, and what these differ in is done in the
motion itself, which keeps its own detail (data_loaders/edit_grammar.py, pose_edits.py, visualize/edited_body.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from data_loaders.corpus import Motion
from data_loaders.edit_frames import MARGIN, frame_order, joint_weights, settles
from data_loaders.edit_grammar import parse_edits
from data_loaders.edit_kinds import Change, Edit, Keep, Mirror, Put
from data_loaders.features import Features
from data_loaders.motion_words import timeline
from data_loaders.pose_code_table import STRIDE
from data_loaders.pose_code_words import code_changes
from data_loaders.pose_codes import indices_from_codes, token_codes
from data_loaders.pose_edits import Edited, apply_edits
from model.capabilities import OWN, Decoding, Edits, Request
from protos.reading import FileError
from sample.generation import NOT_FINITE, NotFiniteError
from visualize.edited_body import carried_over, mirrored
from visualize.joining import in_order

NEUTRAL = "a person moves"  # the text by which detail is added where none is given
SKELETON = "humanml"  # whose joints the edits name


@dataclass(frozen=True)
class PlannedEdit:
    """A motion of one person, the edits that are asked for, the codes (N, 392) of its poses, and those after the edits."""

    motion: Motion
    edits: tuple[Edit, ...]
    text: str
    before: Tensor
    after: Edited

    def told(self) -> str:
        """What becomes of which codes, a line each, with the times of the motion that is made."""
        lines = timeline(code_changes(self.before, self.after.codes, self.motion.fps, self.after.source))
        if len(self.after.source) != len(self.before):
            rate = self.motion.fps / STRIDE
            lines += f"\n{len(self.before) / rate:.1f} s become {len(self.after.source) / rate:.1f} s"
        return lines.strip("\n") or "no code changes: the motion does so already"

    def obeyed(self, made: Motion, features: Features) -> str:
        """How many of the changed codes are those of a motion that was made."""
        found = indices_from_codes(codes_of(made.joints[0], features))
        wanted, given = indices_from_codes(self.after.codes), indices_from_codes(self.before)[self.after.source]
        count = min(len(found), len(wanted))
        changed = (wanted != given)[:count]
        if not changed.any():
            return ""
        share = (found[:count] == wanted[:count])[changed].double().mean()
        return f"{100 * share:.0f} % of the changed codes are those of the motion that was made"


def planned(joints: np.ndarray, features: Features, text: str, name: str) -> PlannedEdit:
    """The edits `text` of joints (T, J, 3) in metres at the rate of `features`. FileError for a motion that edits cannot be made
    of; ValueError for edits that are not understood, contradict each other, or lie outside of it."""
    edits = parse_edits(text)
    require_edited(features)
    if len(joints) < STRIDE:
        raise FileError(f"{name}: {len(joints)} frames at {features.fps:g} per second, an edit needs {STRIDE} or more")
    before = codes_of(joints, features)
    return PlannedEdit(Motion(joints[None], features.fps, features.skeleton), tuple(edits), text, before,
                       apply_edits(before, edits, features.fps))  # fmt: skip


def require_edited(features: Features) -> None:
    """ValueError for features of other bodies than those whose joints edits name."""
    if (features.kind, features.skeleton) != ("humanml", SKELETON):
        raise ValueError(f"this model makes motions of skeleton {features.skeleton} ({features.kind}); motions of {SKELETON} are "
                         "edited")  # fmt: skip


def rows_of(joints: np.ndarray, features: Features) -> Tensor:
    """Features (T, D) of all frames of joints (T, J, 3): rows tell what happens up to the next frame, so the last goes on."""
    given = torch.from_numpy(np.array(joints, np.float32))
    return features.encode(torch.cat([given, 2 * given[-1:] - given[-2:-1]]))


def codes_of(joints: np.ndarray, features: Features) -> Tensor:
    """Pose codes (N, 392) of joints (T, J, 3) as a model over these features reads them."""
    return token_codes(features.joints(rows_of(joints, features)))


def edited_motions(model: Edits, plan: PlannedEdit, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Motion]:
    """An edited motion for each request, whose text and seed say what detail the edited poses get. What is not named does not
    change beyond a margin of `edit_frames.MARGIN` frames. NotFiniteError."""
    features, given = model.features, plan.motion.joints[0]
    made = [edited_joints(model, given, plan.edits, request, decoding) for request in requests]
    return [Motion(joints[None].astype(np.float32), features.fps, features.skeleton, (plan.text,)) for joints in made]


def edited_joints(model: Edits, joints: np.ndarray, edits: Sequence[Edit], request: Request,
                  decoding: Decoding = OWN) -> np.ndarray:  # fmt: skip
    """Joints (M, J, 3) of a motion (T, J, 3) after edits, each in its turn, paces and repetitions last. Edits that say what a
    part comes to bring it there, as the model has it; others move it as the model does."""
    features, frames = model.features, len(joints)
    keeps = [edit for edit in edits if isinstance(edit, Keep)]
    poses = [edit for edit in edits if isinstance(edit, Change | Put | Mirror)]
    for mirror, stage in groupby(poses, key=lambda edit: isinstance(edit, Mirror)):
        for together in ([each] for each in stage) if mirror else [list(stage)]:
            weights = joint_weights([*together, *keeps], frames, features.fps, features.body.joint_names)
            if mirror:
                joints = mirrored(joints, weights, features.body)
            else:
                before, after = decoded(model, joints, [*together, *keeps], request, decoding)
                reached = joint_weights([*filter(settles, together), *keeps], frames, features.fps, features.body.joint_names) > 0
                reached[:, 0] = False  # the height of another body says nothing
                before = carried_over(before, before, joints, reached.astype(float), features.body)
                joints = carried_over(joints, before, after, weights, features.body)
    return in_order(joints, frame_order(edits, frames, features.fps), features.body, MARGIN)


def decoded(model: Edits, joints: np.ndarray, edits: Sequence[Edit], request: Request, decoding: Decoding) -> list[np.ndarray]:
    """Joints (T, J, 3) that a model makes of the codes of a motion (T, J, 3), and of these after edits, by the same draws; the
    last frame stands for what fills no token. NotFiniteError."""
    features = model.features
    codes = codes_of(joints, features)
    changed = apply_edits(codes, edits, features.fps).codes
    rows = model.realise([indices_from_codes(each) for each in (codes, changed)], [request, request], decoding)
    frames = np.minimum(np.arange(len(joints)), STRIDE * len(codes) - 1)
    made = [features.joints(each).double().cpu().numpy()[frames] for each in rows]
    if not all(np.isfinite(each).all() for each in made):
        raise NotFiniteError(f"the edited poses came out with NaN or infinite values: {NOT_FINITE}")
    return made
