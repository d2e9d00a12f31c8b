"""python -m train.train_in2in --save_dir save/run --dataset interhuman --mode interaction: texts to motion of two people (in2IN,
InterGen), or with --mode individual the one-person prior that DualMDM blends in.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from model.in2in_config import ALIASES, IGNORED, PRESETS, In2INConfig
from protos.flags import Range, configured, with_defaults
from protos.options import command, run_command
from train.options import SampledOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(num_steps=352_000, weight_decay=2e-5, grad_clip=0.5, schedule="intergen", warmup_steps=1760)
class In2INOptions(In2INConfig, SampledOptions):
    """What is trained, and on what."""

    preset: Literal["in2in", "intergen", "prior", "small", "small_prior"] = "in2in"
    """Recipe that sets the defaults of the other flags: of published weights, prior being of one person, or of small ones for few
    recordings, which small makes out of those of small_prior (--prior)."""
    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name; of one person with features interhuman_person."""
    prior: str = ""
    """Checkpoint of --mode individual that the two people are made of: its weights stay as they are, and only what reads the
    partner is learned, with few data and steps."""
    prior_stays: bool = True
    """Whether the weights of --prior stay; else training begins with them and changes all, and the folder holds no prior."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""
    window: Annotated[int, Range(14, 299)] = 299
    """Frames of the longest window of a recording that is trained on, and of what is made."""
    bucket: bool = True
    """Batches of motions of similar length, which saves the time spent on padding."""
    published_pairing: bool = False
    """Give each person the texts that the published loader of in2IN does: mostly those of the other one, mirrored."""
    spread: Annotated[float, Range(0, 100)] = 0.0
    """Of one person: metres from the origin, to each side, within which motions start, facing anywhere, as the people of a pair
    do, for a prior that two people are made of; 0: at the origin, as published."""

    def __post_init__(self) -> None:
        SampledOptions.__post_init__(self)
        In2INConfig.__post_init__(self)
        if self.prior and self.mode != "interaction":
            raise ValueError("--prior is what two people are made of: it belongs to --mode interaction")
        if self.spread and self.mode != "individual":
            raise ValueError("--spread moves one person about: it belongs to --mode individual")


def run(options: In2INOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import load_part
    from train.interaction_recipe import Drawing, interaction_recipe
    from train.loop import train

    corpus = Corpus.open(options.dataset_folder or options.dataset)
    prior = load_part(options.prior, "individual", "in2in") if options.prior else None
    drawing = Drawing(options.balance, options.bucket, options.published_pairing, options.spread, options.window)
    config = configured(In2INConfig, options)
    return train(interaction_recipe(corpus, config, options, drawing, prior, options.prior_stays), options)


main = command(In2INOptions, run, __doc__, ALIASES, PRESETS, IGNORED)

if __name__ == "__main__":
    run_command(main)
