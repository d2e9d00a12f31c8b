"""python -m train.train_temos --save_dir save/temos --dataset humanml: text to motion of a given length (TEMOS).

TMR without its contrast (Petrovich et al. 2022): see train.train_tmr, whose flags these are.
"""

from dataclasses import dataclass

from model.tmr_config import PRESETS
from protos.flags import with_defaults
from protos.options import command, run_command
from train.tmr_options import TMROptions, run


@dataclass(frozen=True, kw_only=True)
@with_defaults(lambda_contrastive=0.0)
class TEMOSOptions(TMROptions):
    """Train a text encoder and a motion encoder with a common space, and a decoder that makes motions out of it."""


main = command(TEMOSOptions, run, __doc__, presets=PRESETS)

if __name__ == "__main__":
    run_command(main)
