"""python -m visualize.render_mesh --input_path outputs/RUN/prompt00_rep00.mp4: a motion with an SMPL body on, as meshes."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protos.flags import FPS, Range
from protos.options import command, run_command

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MeshOptions:
    """Fit a body of the SMPL family to a motion: parameters, and a mesh for each frame or one video. Without a body model the
    mesh is that of the free body."""

    input_path: Path
    """prompt##_rep##.mp4 (or MDM's sample##_rep##.mp4) beside the results of its run; .npy or .npz of joints (T, 22, 3) in
    metres, Y up, of several persons (P, T, 22, 3); motions.npz#ROW; or the folder of a run."""
    output_dir: Path | None = None
    """Where to write (default: where the motion lies)."""
    repetition: Annotated[int, Range(0, 100_000)] = 0
    """Which repetition of the first prompt, where --input_path is the folder of a run."""
    body_model: Path | None = None
    """Body model of the SMPL family, or the folder in which it is (default: as protos/smpl_files.sh says)."""
    gender: Literal["neutral", "male", "female"] = "neutral"
    """Which of the body models."""
    video: bool = False
    """Write an mp4 of the meshes in place of an .obj for each frame."""
    motion_fps: Annotated[float, FPS] = 20.0
    """Frames per second of files that do not say theirs."""
    fitting_steps: Annotated[int, Range(0, 10_000)] = 40
    """Steps of L-BFGS over all frames; with 0 turns are what the directions of bones say."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


def run(options: MeshOptions) -> list[Path]:
    """Writes the files of a motion in place of those of an earlier run, and returns them: parameters, the folder of meshes or the
    video. FileError for what is no motion of a person or no body model; OutputError where files of others are in the way."""
    from data_loaders.body_models import HOW_TO_GET, default_body_model, find_body_model
    from data_loaders.shown_motions import motion_shown
    from protos.outputs import Outputs
    from protos.processes import pick_device
    from visualize.meshes import MeshNames, of_a_person, write_free, write_smpl

    motion, name = motion_shown(options.input_path, options.repetition, options.motion_fps)
    motion = of_a_person(motion, options.input_path)
    if options.body_model is not None:
        model = find_body_model(options.body_model, options.gender, "smpl")
    else:
        model = default_body_model(options.gender)
    folder = options.input_path if options.input_path.is_dir() else options.input_path.parent
    outputs = Outputs(options.output_dir or folder, "set of meshes", going_on=True, flag="--output_dir")
    names = MeshNames(name, len(motion.joints), options.repetition if options.input_path.is_dir() else None)
    if model is not None:
        device = pick_device(options.device)
        return write_smpl(outputs, names, motion, model, options.gender, options.video, options.fitting_steps, device)
    log.warning("no body model found, so the mesh is that of the free body, without SMPL parameters; %s", HOW_TO_GET)
    return write_free(outputs, names, motion, options.video)


main = command(MeshOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
