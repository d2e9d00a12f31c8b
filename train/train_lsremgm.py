"""python -m train.train_lsremgm --save_dir save/run --dataset humanml: text to motion by diffusion (LS-ReMGM, MDM)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from model.lsremgm_config import ALIASES, IGNORED, MOVED, PRESETS, LSReMGMConfig
from protos.flags import configured
from protos.options import command, run_command
from train.options import GeneratorOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
class LSReMGMOptions(LSReMGMConfig, GeneratorOptions):
    """What is trained, and on what."""

    preset: Literal["published", "published_50steps", "dip", "starter"] = "published"
    """Recipe of published weights that sets the defaults of the other flags."""
    dataset: str = "humanml"
    """humanml, kit, or a folder made by data_loaders.prepare."""
    bucket: bool = False
    """With --mask_frames: batches of clips of similar length, which saves the time spent on padding; published ones are mixed."""


def run(options: LSReMGMOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.lsremgm import LSReMGM
    from train.generator_recipe import Drawing, generator_recipe
    from train.loop import train

    corpus = Corpus.open(options.dataset_folder or options.dataset)
    config = configured(LSReMGMConfig, options)
    return train(generator_recipe(LSReMGM, corpus, config, options, Drawing(bucket=options.bucket)), options)


main = command(LSReMGMOptions, run, __doc__, ALIASES, PRESETS, IGNORED, MOVED)

if __name__ == "__main__":
    run_command(main)
