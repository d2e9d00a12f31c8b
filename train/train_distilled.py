"""python -m train.train_distilled --save_dir save/run --model_path checkpoints/starter: text to motion in one step or two,
learned from a model that takes many (consistency distillation, with its guidance folded in).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from protos.flags import GUIDANCE, SAMPLING_STEPS, Range, with_defaults
from protos.options import command, run_command
from train.options import DrawingOptions, GeneratorOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=4000, lr=1e-4, adam_beta2=0.99, warmup_steps=100, schedule="cosine", grad_clip=1.0, ema_decay=0.995,
    ema_warmup=True, save_interval=500, eval_interval=500, log_interval=50,
)  # fmt: skip
class DistilledOptions(DrawingOptions, GeneratorOptions):
    """Who is learned from, and how."""

    model_path: str
    """Teacher: checkpoint of train.train_latent or train.train_lsremgm, with whose networks and weights the student begins."""
    dataset: str = ""
    """Dataset folder made by data_loaders.prepare, or a known name (default: the teacher's)."""
    sampling_steps: Annotated[int, SAMPLING_STEPS] = 2
    """Denoising steps that samples take unless told otherwise; one training serves any few."""
    guidance_scale: Annotated[float, GUIDANCE] | None = None
    """Strength of classifier-free guidance that is folded in (default: the teacher's own)."""
    parts: Annotated[int, Range(1, 10_000)] = 4
    """Parts of the way from noise to data: from the end of each, the student learns to go where it goes from its beginning."""
    steps_per_part: Annotated[int, Range(1, 10_000)] = 4
    """Steps of DDIM by which the teacher goes through a part; 50 parts of 1 step are those of Luo et al. 2023."""


def run(options: DistilledOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import from_pretrained
    from train.distillation_recipe import Lesson, distillation_recipe
    from train.generator_recipe import Drawing
    from train.loop import train

    teacher = from_pretrained(options.model_path, systems=("latent", "lsremgm"))
    corpus = Corpus.open(options.dataset_folder or options.dataset or teacher.config.dataset)
    scale = teacher.config.guidance_scale if options.guidance_scale is None else options.guidance_scale
    lesson = Lesson(teacher, options.model_path, scale, options.parts, options.steps_per_part, options.sampling_steps)
    return train(distillation_recipe(lesson, corpus, options, Drawing(options.balance, options.repeat, options.bucket)), options)


main = command(DistilledOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
