"""python -m train.train_reaction --save_dir save/run --dataset two_person: action to reaction by diffusion (LS-ReMGM)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from model.lsremgm_config import ALIASES
from model.reaction_config import PRESETS, ReactionConfig
from protos.flags import Range, configured, with_defaults
from protos.options import command, run_command
from train.options import SampledOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(num_steps=500_000, weight_decay=2e-5)
class ReactionOptions(ReactionConfig, SampledOptions):
    """What is trained, and on what."""

    preset: Literal["published", "small", "online"] = "published"
    """Recipe that sets the defaults of the other flags: as the paper's, a network for few recordings, or one that reacts while
    the action goes on, a few frames at a time, in the latents of an --autoencoder."""
    dataset: str
    """Dataset folder of two people made by data_loaders.prepare, or a known name."""
    init_from: str = ""
    """Checkpoint of train.train_lsremgm, of which a new run takes every weight of a name and shape that it has too."""
    autoencoder: str = ""
    """With --objective meanflow: checkpoint of train.train_autoencoder --causal on data of two people, in whose latents, one for
    each piece, reactions are made."""
    window: Annotated[int, Range(14, 299)] = 299
    """Frames of the longest window of a recording that is trained on; what acts longer is answered as far as that."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""
    bucket: bool = True
    """Batches of motions of similar length, which saves the time spent on padding."""


def run(options: ReactionOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import load_part
    from train.interaction_recipe import Drawing
    from train.loop import train
    from train.reaction_recipe import reaction_recipe

    corpus = Corpus.open(options.dataset_folder or options.dataset)
    config = configured(ReactionConfig, options, max_frames=options.window)
    drawing, path = Drawing(options.balance, options.bucket), options.autoencoder
    parts = {"autoencoder": load_part(path, "autoencoder", "motion_autoencoder")} if path else {}
    return train(reaction_recipe(corpus, config, options, drawing, options.init_from, parts), options)


main = command(ReactionOptions, run, __doc__, {name: ALIASES[name] for name in ("layers", "text_encoder_type")}, PRESETS)

if __name__ == "__main__":
    run_command(main)
