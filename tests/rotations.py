"""Quaternions and the forms of rotations, as the originals compute with them; our features need none of it.

Quaternions are (w, x, y, z), Hamilton product, any leading dimensions; matrices act on column vectors. `6d` means the
first and second COLUMN of the matrix (the HumanML3D convention); `6d_rows` means the first two rows (PyTorch3D).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NEARLY_ZERO = 1e-30
EULER_ORDERS = ("xyz", "yzx", "zxy", "xzy", "yxz", "zyx")


def qmul(q: Tensor, r: Tensor) -> Tensor:
    """Hamilton product q ⊗ r (..., 4): first r, then q."""
    w1, x1, y1, z1 = q.unbind(-1)
    w2, x2, y2, z2 = r.unbind(-1)
    return torch.stack(
        (
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ),
        -1,
    )


def qconj(q: Tensor) -> Tensor:
    """Conjugate (..., 4): the inverse of a unit quaternion."""
    return q * q.new_tensor((1.0, -1.0, -1.0, -1.0))


def qnormalize(q: Tensor) -> Tensor:
    """Unit quaternion (..., 4). A zero quaternion gives NaN, as it stands for no rotation."""
    return q / q.norm(dim=-1, keepdim=True)


def qrotate(q: Tensor, v: Tensor) -> Tensor:
    """Vectors v (..., 3) turned by q (..., 4). q is not normalised: v + 2 (w (u x v) + u x (u x v))."""
    u, v = torch.broadcast_tensors(q[..., 1:], v)
    uv = torch.linalg.cross(u, v)
    return v + 2 * (q[..., :1] * uv + torch.linalg.cross(u, uv))


def qbetween(a: Tensor, b: Tensor) -> Tensor:
    """Shortest arc (..., 4) that turns a (..., 3) onto b (..., 3), of any length.

    Opposite vectors leave the axis open: half a turn about some axis perpendicular to a (the published code gives NaN).
    A zero vector gives no rotation.
    """
    a, b = torch.broadcast_tensors(a, b)
    lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    q = torch.cat((lengths + (a * b).sum(-1, keepdim=True), torch.linalg.cross(a, b)), -1)
    norm = q.norm(dim=-1, keepdim=True)
    open_axis = norm <= NEARLY_ZERO
    if bool(open_axis.any()):
        half_turn = torch.cat((torch.zeros_like(lengths), _perpendicular(a)), -1)
        no_turn = q.new_tensor((1.0, 0.0, 0.0, 0.0)).expand_as(q)
        q = torch.where(open_axis, torch.where(lengths > NEARLY_ZERO, half_turn, no_turn), q)
        norm = q.norm(dim=-1, keepdim=True)
    return q / norm


def _perpendicular(a: Tensor) -> Tensor:
    """A unit vector (..., 3) perpendicular to a: across the axis in which a is shortest."""
    axis = F.one_hot(a.abs().argmin(-1), 3).to(a.dtype)
    return F.normalize(torch.linalg.cross(a, axis), dim=-1)


def qfix(q: Tensor, dim: int = 0) -> Tensor:
    """The same rotations with signs continuous along `dim` (time): q and -q are one rotation."""
    q = q.movedim(dim, 0)
    jumps = (q[1:] * q[:-1]).sum(-1) < 0
    odd = jumps.cumsum(0) % 2 == 1
    signs = torch.where(odd, -1.0, 1.0).to(q.dtype)
    return torch.cat((q[:1], q[1:] * signs[..., None])).movedim(0, dim)


def quaternion_to_matrix(q: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) of any length but 0."""
    w, x, y, z = q.unbind(-1)
    s = 2.0 / (q * q).sum(-1)
    rows = (
        1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y),
        s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x),
        s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of rotation matrices (..., 3, 3), computed from the largest of the four components."""
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    # four times the squares and products of (w, x, y, z): every row is the quaternion times one of its components
    candidates = torch.stack((
        1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01,
        m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20,
        m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m12 + m21,
        m10 - m01, m20 + m02, m21 + m12, 1 - m00 - m11 + m22,
    ), -1).unflatten(-1, (4, 4))  # fmt: skip
    largest = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    return qnormalize(candidates.gather(-2, index).squeeze(-2))


def matrix_to_6d(matrix: Tensor) -> Tensor:
    """First and second column (..., 6) of matrices (..., 3, 3)."""
    return torch.cat((matrix[..., 0], matrix[..., 1]), -1)


def quaternion_to_6d(q: Tensor) -> Tensor:
    """First and second matrix column (..., 6) of quaternions (..., 4)."""
    return matrix_to_6d(quaternion_to_matrix(q))


def sixd_to_matrix(sixd: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of column 6D (..., 6), orthogonal or not. HumanML3D's form of Zhou et al. 2019."""
    a, b = sixd[..., :3], sixd[..., 3:6]
    x = a / a.norm(dim=-1, keepdim=True)
    z = torch.linalg.cross(x, b)
    z = z / z.norm(dim=-1, keepdim=True)
    return torch.stack((x, torch.linalg.cross(z, x), z), -1)


def sixd_to_quaternion(sixd: Tensor) -> Tensor:
    """Unit quaternions (..., 4), sign arbitrary, of column 6D (..., 6)."""
    return matrix_to_quaternion(sixd_to_matrix(sixd))


def matrix_to_6d_rows(matrix: Tensor) -> Tensor:
    """First two rows (..., 6) of matrices (..., 3, 3): PyTorch3D's convention, used by AMASS-based systems."""
    return matrix[..., :2, :].flatten(-2)


def sixd_rows_to_matrix(sixd: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of row 6D (..., 6), by Gram-Schmidt. Zhou et al. 2019, §B."""
    x = F.normalize(sixd[..., :3], dim=-1)
    b = sixd[..., 3:6]
    y = F.normalize(b - (x * b).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack((x, y, torch.linalg.cross(x, y)), -2)


def euler_to_quaternion(degrees: Tensor, order: str) -> Tensor:
    """Quaternions (..., 4) of Euler angles (..., 3).

    The angles are given as (x, y, z) whatever the order; `order` says how they compose, left to right: "zxy" is
    Rz Rx Ry, which is also the reading of a BVH file with channels Z, X, Y. Published sign: negated for xyz, yzx, zxy.
    """
    _check_order(order)
    half = torch.deg2rad(degrees) / 2
    cos, sin = half.cos(), half.sin()
    zero = torch.zeros_like(cos[..., 0])
    total = None
    for letter in order:
        axis = "xyz".index(letter)
        parts = [cos[..., axis], zero, zero, zero]
        parts[1 + axis] = sin[..., axis]
        turn = torch.stack(parts, -1)
        total = turn if total is None else qmul(total, turn)
    return -total if order in EULER_ORDERS[:3] else total


def quaternion_to_euler(q: Tensor, order: str) -> Tensor:
    """Euler angles in degrees (..., 3) of unit quaternions (..., 4), in the ORDER of the name: for "zxy" (z, x, y)."""
    _check_order(order)
    i, j, k = ("xyz".index(letter) for letter in order)
    sign = 1.0 if order in EULER_ORDERS[:3] else -1.0  # even or odd permutation
    m = quaternion_to_matrix(q)
    first = torch.atan2(-sign * m[..., j, k], m[..., k, k])
    second = torch.asin((sign * m[..., i, k]).clamp(-1, 1))
    third = torch.atan2(-sign * m[..., i, j], m[..., i, i])
    return torch.rad2deg(torch.stack((first, second, third), -1))


def _check_order(order: str) -> None:
    if order not in EULER_ORDERS:
        raise ValueError(f"unknown Euler order {order!r}: use one of {', '.join(EULER_ORDERS)}")


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of rotation vectors (..., 3) in radians (exponential map)."""
    half = axis_angle.norm(dim=-1, keepdim=True) / 2
    return torch.cat((half.cos(), 0.5 * torch.sinc(half / torch.pi) * axis_angle), -1)


def quaternion_to_axis_angle(q: Tensor) -> Tensor:
    """Rotation vectors (..., 3) in radians, at most half a turn long, of unit quaternions (..., 4)."""
    q = torch.where(q[..., :1] < 0, -q, q)
    sin = q[..., 1:].norm(dim=-1, keepdim=True)
    half = torch.atan2(sin, q[..., :1])
    return q[..., 1:] * (2 / torch.sinc(half / torch.pi))
