"""python -m data_loaders.prepare SOURCE --input FOLDER --output dataset/NAME: raw recordings -> a dataset folder.

Writes the HumanML3D layout (new_joints, new_joint_vecs, texts, Mean.npy, Std.npy, split lists), the packed corpus, and
report.txt, which accounts for every file found. A further run does what is left: an interrupted one goes on, and what was
changed, repaired, captioned or removed since is done again. It ends with 1 where a recording was damaged.

python -m data_loaders.prepare two_person --input FOLDER --output dataset/NAME: recordings of two people -> clips of both, in one
world; interhuman takes the official folder.

python -m data_loaders.prepare merge dataset/A dataset/B ... --output dataset/NAME: prepared datasets -> one.
"""

from data_loaders.read_recordings import PreparationSettings
from protos.options import command, run_command
from protos.processes import run_module


def run(options: PreparationSettings) -> None:
    if options.source == "merge":
        from data_loaders.merging import merge

        merge(options.datasets, options.output, options.overwrite)
        accounts = None
    else:
        from data_loaders.preparation import prepare

        accounts = prepare(options)
    if options.preview:  # a layer to the right, hence a command of its own
        flags = ["--dataset", str(options.output), "--num_clips", str(options.preview)]
        if run_module("visualize.preview", flags):
            raise ValueError(f"{options.output} is prepared, but its preview could not be rendered (see above)")
    if accounts and (problem := accounts.problem()):
        raise ValueError(problem)


main = command(PreparationSettings, run, __doc__)

if __name__ == "__main__":
    run_command(main)
