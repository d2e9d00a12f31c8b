"""python -m train.train_tmr --save_dir save/tmr --dataset humanml: text-motion retrieval (TMR, Petrovich et al. 2023).

Reads a prepared dataset, or a folder in TMR's layout with annotations.json (HumanML3D, KIT-ML, BABEL). On several
processes every text is contrasted with the motions of all of them, so they train like one with a larger batch; parts of
--accumulation are contrasted apart.
"""

from model.tmr_config import PRESETS
from protos.options import command, run_command
from train.tmr_options import TMROptions, run

main = command(TMROptions, run, __doc__, presets=PRESETS)

if __name__ == "__main__":
    run_command(main)
