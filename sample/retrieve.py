"""python -m sample.retrieve SUBCOMMAND: one space of texts and motions, to encode, compare, search and localise in.

Any TMR checkpoint, published run of TMR or evaluator will do as --model_path. SUBCOMMAND --help tells its options.

encode_motion, encode_text      a motion file or a text as a vector
text_motion_sim                 how well a text and a motion belong together
encode_dataset                  a gallery of a dataset or of a folder of motion files; run again, it adds what is new
search                          a gallery by text, by motion, or for texts
localize                        when something happens in a long motion

TMR's own commands              here, after python -m sample.retrieve
encode_motion.py run_dir=R npy=F                encode_motion --run_dir R --npy F
encode_text.py run_dir=R text="..."             encode_text --run_dir R --text "..."
text_motion_sim.py run_dir=R text="..." npy=F   text_motion_sim --run_dir R --text "..." --npy F
encode_dataset.py run_dir=R data=humanml3d      encode_dataset --run_dir R --data FOLDER
app.py --run_dir R                              python -m sample.demo --run_dir R (in a browser), or search --html
retrieval.py run_dir=R protocol=all             python -m evaluations.eval_retrieval --run_dir R --protocol all
"""

from collections.abc import Sequence

from protos.options import parse, run_command
from protos.processes import start
from sample.retrieve_options import ALIASES, EncodeDataset, EncodeMotion, EncodeText, Localize, Search, TextMotionSim

Subcommand = EncodeMotion | EncodeText | TextMotionSim | EncodeDataset | Search | Localize


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(Subcommand, argv, "\n\n".join(__doc__.split("\n\n")[:2]), ALIASES)  # the tables would be reflowed
    start(run, options)


def run(options: Subcommand) -> None:
    """Exits with 1 where a file of a folder could not be read; the others are in the gallery."""
    from sample import retrieve_run as single
    from sample.gallery_encode import encode_dataset

    steps = {
        EncodeMotion: single.encode_motion, EncodeText: single.encode_text, TextMotionSim: single.text_motion_sim,
        EncodeDataset: encode_dataset, Search: single.search, Localize: single.localize,
    }  # fmt: skip
    if problems := steps[type(options)](options):
        raise SystemExit(min(len(problems), 1))


if __name__ == "__main__":
    run_command(main)
