"""python -m benchmarks.smpl: joints -> SMPL, ours beside the published recipe, CPU seconds and how far the joints are off.

Both fit a made-up body of SMPL's format and size (24 joints, 6,888 vertices) of known pose and shape. The published recipe
(SMPLify as MDM and LS-ReMGM run it) is written plainly over the smplx package: 10 calls of L-BFGS for place and heading, then 150
over pose and shape of each frame, of up to 150 iterations, with the whole skin at every one. It takes minutes to hours, so it is
measured on some frames and some calls. The whole lies between these calls, were the others to end at once because they have
converged, and 150 such calls, each times the frames over those measured. Its prior, a licensed file, is a plain Gaussian here.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np

from benchmarks.timing import cost, least
from protos.flags import FRAMES, Range
from protos.options import command, run_command
from tests.synthetic_bodies import smooth_poses, write_smpl

OUTER, INNER = 150, 150  # calls of L-BFGS over pose and shape, and iterations of each
PER_JOINT = 287  # vertices around each of 24 joints


@dataclass(frozen=True)
class SmplBenchmark:
    """Time the fitting of SMPL bodies."""

    frames: Annotated[int, FRAMES] = 196
    """Frames of the clip."""
    clips: Annotated[int, Range(1, 1000)] = 1
    """Clips that are fitted at once."""
    published_frames: Annotated[int, Range(0, 100_000)] = 8
    """Frames on which the published recipe is measured; with 0 it is not."""
    published_calls: Annotated[int, Range(1, OUTER)] = 2
    """Of its 150 calls."""
    rounds: Annotated[int, Range(1, 100)] = 3
    """Rounds of ours, of which the cheapest counts."""


def run(options: SmplBenchmark) -> None:
    from data_loaders.body_models import load_body_model, load_surface
    from data_loaders.smpl_body import pose_joints
    from visualize.mesh_files import write_objs
    from visualize.posed_body import PosedBody, PosedSurface
    from visualize.smpl import fit

    with TemporaryDirectory() as folder:
        path = write_smpl(Path(folder) / "SMPL_NEUTRAL.npz", per_joint=PER_JOINT)
        model, surface = load_body_model(path), load_surface(path)
        joints = np.stack([pose_joints(model, smooth_poses(options.frames, seed)[:, :66], betas) + [1, 0.9, 2]
                           for seed, betas in enumerate(np.random.default_rng(0).normal(size=(options.clips, 10)))])  # fmt: skip
        fit(model, joints[:, :4])
        skin = PosedSurface(PosedBody(model), surface)
        bones, fitted = least(lambda: fit(model, joints, steps=0), lambda: fit(model, joints), rounds=options.rounds)
        skinned = least(lambda: skin.vertices(fitted.result.poses), rounds=options.rounds)[0]
        names = [Path(folder) / f"frame{frame:03d}.obj" for frame in range(options.frames)]
        written = cost(lambda: write_objs(names, skinned.result[0], surface.faces))
        print(f"{options.clips} x {options.frames} frames{'CPU s':>22}{'s':>8}{'mean error mm':>15}{'largest':>9}")
        for name, each in (("bones alone", bones), ("fitted", fitted)):
            errors = 1e3 * each.result.errors
            print(f"{name:32}{each.cpu:8.2f}{each.wall:8.2f}{errors.mean():15.3f}{errors.max():9.2f}", flush=True)
        for name, each in (("vertices", skinned), (".obj files of a person", written)):
            print(f"{name:32}{each.cpu:8.2f}{each.wall:8.2f}")
        if options.published_frames:
            some = joints[0, :: max(1, options.frames // options.published_frames)][: options.published_frames]
            first, calls, errors = published(path, some, options.published_calls)
            share = options.clips * options.frames / len(some)
            lowest, most = (share * (first.cpu + number * calls.cpu) for number in (1, OUTER / options.published_calls))
            print(f"published, {len(some)} frames, {options.published_calls} of 150 calls{first.cpu + calls.cpu:11.1f}"
                  f"{first.wall + calls.wall:8.1f}{1e3 * errors.mean():15.3f}{1e3 * errors.max():9.2f}\n"
                  f"published, whole: {lowest:.0f} to {most:.0f} s, {lowest / fitted.cpu:.0f} to "
                  f"{most / fitted.cpu:.0f} times ours")


def published(path: Path, joints: np.ndarray, calls: int) -> tuple:
    """Costs of the first stage and of so many calls of the second, on joints (T, 22, 3), and errors (T, 22) in metres."""
    import smplx
    import torch
    from smplx.utils import Struct
    from smplx.vertex_ids import vertex_ids

    body = smplx.SMPL("", data_struct=Struct(**np.load(path)), batch_size=len(joints), num_betas=10,
                      vertex_ids=dict.fromkeys(vertex_ids["smplh"], 0))  # fmt: skip
    target = torch.tensor(joints, dtype=torch.float32)
    torso = [2, 1, 17, 16]
    with torch.no_grad():
        body.transl += (target[:, torso] - body().joints[:, torso]).mean(1)
    start, bent = body.transl.detach().clone(), torch.tensor([1.0, -1, -1, -1])

    def placed() -> torch.Tensor:
        off = body().joints[:, torso] - target[:, torso]
        return off.square().sum() + 100**2 * (body.transl - start).square().sum()

    def posed() -> torch.Tensor:
        squared = (body().joints[:, :22] - target).square()
        terms = 600**2 * (100**2 * squared / (100**2 + squared)).sum()
        terms = terms + (4.78 * 1.5) ** 2 * 0.5 * body.body_pose.square().sum()
        terms = terms + 15.2**2 * (body.body_pose[:, [52, 55, 9, 12]] * bent).exp().square().sum()
        return terms + 5**2 * (body.betas.square().sum() + body.body_pose.square().sum())

    def optimised(parameters: list, loss, rounds: int) -> None:
        optimizer = torch.optim.LBFGS(parameters, lr=1e-2, max_iter=INNER, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        for _ in range(rounds):
            optimizer.step(closure)

    first = cost(lambda: optimised([body.global_orient, body.transl], placed, 10))
    second = cost(lambda: optimised([body.global_orient, body.transl, body.body_pose, body.betas], posed, calls))
    with torch.no_grad():
        errors = (body().joints[:, :22] - target).norm(dim=-1).numpy()
    return first, second, errors


main = command(SmplBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
