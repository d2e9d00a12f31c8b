"""Rotations of bones in the special form of the HumanML3D features, and the kinematics that go with them.

Rotation j belongs to the bone that ENDS at joint j, not to the joint that starts it as in SMPL. A bone's world rotation
is the shortest arc from its rest direction, without twist; its local rotation is relative to the bone before it in the
chain. Every chain starts at the root rotation, also the arms, which hang on the spine. Guo et al. 2022, skeleton.py.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from data_loaders.skeleton import Skeleton

NEARLY_ZERO = 1e-30  # of a squared length: there is none
NEARLY_OPPOSITE = 1e-4  # |rest + bone|², below which rounding shows


@dataclass(frozen=True)
class SkeletonTensors:
    """A skeleton's constants as float32 and index tensors; bone b ends at joint b + 1."""

    parents: Tensor  # (J-1,) joint each bone starts from
    rotation_parents: Tensor  # (J-1,) joint whose rotation a bone's is relative to
    rest: Tensor  # (J-1, 3, 1) unit rest directions
    reflections: Tensor  # (3, J-1, 3, 1) identity - 2 rest rest', matrix column first
    lengths: Tensor | None  # (J-1,) of the target body
    paths: Tensor  # (J, J-1) 1 where a bone lies between the root and a joint: paths @ bones = joints about the root
    feet: Tensor  # (4,)
    legs: Tensor  # (2,) bones that measure the leg


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # constants made while encoding serve in training, too
def skeleton_tensors(skeleton: Skeleton, device: torch.device) -> SkeletonTensors:
    """The constants of a skeleton on a device, made once."""
    paths = torch.zeros(skeleton.num_joints, skeleton.num_joints - 1)
    for joint, bones in enumerate(skeleton.ancestors):
        paths[joint, [bone - 1 for bone in bones]] = 1.0
    lengths = skeleton.bone_lengths
    rest = torch.tensor(skeleton.raw_offsets[1:], dtype=torch.float32, device=device)
    return SkeletonTensors(
        parents=torch.tensor(skeleton.parents[1:], device=device),
        rotation_parents=torch.tensor(skeleton.rotation_parents[1:], device=device),
        rest=rest[:, :, None],
        reflections=(torch.eye(3, device=device)[:, None] - 2 * rest.T[:, :, None] * rest)[..., None],
        lengths=None if lengths is None else torch.tensor(lengths[1:], dtype=torch.float32, device=device),
        paths=paths.to(device),
        feet=torch.tensor(skeleton.feet, device=device),
        legs=torch.tensor(skeleton.leg_joints, device=device) - 1,
    )


def unit_bones(joints: Tensor, constants: SkeletonTensors) -> tuple[Tensor, Tensor]:
    """Unit directions (J-1, 3, N) and lengths (J-1, N) of the bones of joints (J, 3, N). A bone without length points along its
    rest direction and counts as 1 long."""
    bones = joints[1:] - joints.index_select(0, constants.parents)
    own = squared_length(bones).sqrt_()
    if own.amin() <= NEARLY_ZERO:
        missing = own <= NEARLY_ZERO
        bones = torch.where(missing[:, None], constants.rest, bones)
        own = torch.where(missing, 1.0, own)
    return bones.div_(own[:, None]), own


def bone_lengths(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Length of the bone that ends at each joint (..., J), 0 for the root, from joints (..., >= J, 3)."""
    joints = joints[..., : skeleton.num_joints, :]
    parents = [max(parent, 0) for parent in skeleton.parents]
    return (joints - joints[..., parents, :]).norm(dim=-1)


def local_sixd(directions: Tensor, heading: Tensor, skeleton: Skeleton, out: Tensor | None = None) -> Tensor:
    """6D (J-1, 6, N) of the local bone rotations, from unit bone directions (J-1, 3, N) and headings (N,).

    The same as quaternion shortest arcs, as matrices: with s = rest + bone, R = I - 2 s s'/|s|² + 2 bone rest'.
    Dividing by |s|² rather than by 1 + cos keeps accuracy where the bone points away from its rest direction.
    """
    constants, frames = skeleton_tensors(skeleton, directions.device), directions.shape[-1]
    between = directions + constants.rest
    squared = squared_length(between)
    if squared.amin() < NEARLY_OPPOSITE:
        exact = _between_opposite(directions, constants.rest)
        between = torch.where((squared < NEARLY_OPPOSITE)[:, None], exact, between)
        squared = squared_length(between)
    # column c of R is (identity_c - 2 rest_c rest) + s (2 rest_c - 2 s_c / |s|²), because bone = s - rest
    factors = torch.addcmul(2 * constants.rest, between, squared.reciprocal_()[:, None], value=-2)  # (J-1, 3, N)
    world = directions.new_empty(3, skeleton.num_joints, 3, frames)  # matrix column, joint, x y z, frame
    bones = world[:, 1:]
    torch.addcmul(constants.reflections, factors.transpose(0, 1)[:, :, None], between, out=bones)
    world[:, 0] = 0.0
    world[1, 0, 1] = 1.0
    world[0::2, 0, 0] = torch.view_as_real(heading.conj().resolve_conj()).T  # cos, -sin
    world[0, 0, 2], world[2, 0, 2] = heading.imag, heading.real
    parents = world.index_select(1, constants.rotation_parents)  # (3, J-1, 3, N)
    out = directions.new_empty(skeleton.num_joints - 1, 6, frames) if out is None else out
    # parent' @ bone, first two columns: (column, row, J-1, N), summed over the three components
    product = out.unflatten(1, (2, 3)).permute(1, 2, 0, 3)
    columns = bones[:2, None]
    torch.mul(parents[:, :, 0], columns[..., 0, :], out=product)
    product.addcmul_(parents[:, :, 1], columns[..., 1, :]).addcmul_(parents[:, :, 2], columns[..., 2, :])
    return out


def _between_opposite(directions: Tensor, rest: Tensor) -> Tensor:
    """rest + bone (J-1, 3, N) for bones that point away from `rest`, where the plain sum is all rounding error.

    An exactly opposite bone (published: NaN) is half a turn about some axis across, told by a very short vector.
    """
    along = (directions * rest).sum(1, keepdim=True)
    aside = directions - along * rest
    squared = squared_length(aside)[:, None]
    across = 1e-8 * rest.roll(1, 1)
    return torch.where(squared <= NEARLY_ZERO, across, aside + rest * squared / (1 - along))


def squared_length(vectors: Tensor) -> Tensor:
    """(..., N) from (..., 3, N): torch's own norm is slow along an outer dimension."""
    x, y, z = vectors.unbind(-2)
    return (x * x).addcmul_(y, y).addcmul_(z, z)
