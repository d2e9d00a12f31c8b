"""What distillation adds to the training of a text-to-motion model: a student that begins as its teacher, and their loss."""

from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from data_loaders.corpus import Batch, Corpus
from diffusion.distillation import consistency_loss
from diffusion.gaussian import Diffusion
from diffusion.guidance import dropped_rows, guided, stack_conditions
from diffusion.losses import calm_weights
from evaluations.report import checkpoint_stamp, stamp
from model.lsremgm import LSReMGM
from model.lsremgm_config import LSReMGMConfig
from model.model import Draws
from model.registry import system_of
from protos.randomness import randint, randn
from train.generator_recipe import Drawing, generator_recipe
from train.options import GeneratorOptions
from train.recipe import Recipe


@dataclass(frozen=True)
class Lesson:
    """What a student learns: the way of `teacher`, whose checkpoint is at `path`, guided, from noise to data in so many parts of
    so many steps each; it samples in `sampling_steps`. ValueError for a teacher that cannot be distilled."""

    teacher: LSReMGM
    path: str
    guidance_scale: float
    parts: int
    steps_per_part: int
    sampling_steps: int

    def __post_init__(self) -> None:
        c = self.teacher.config
        if c.own_guidance is None or not c.reads_text or c.context_len or c.target_encoder != "none":
            raise ValueError(f"{self.path} cannot be distilled: that takes a model of whole motions for a text, with guidance")
        if c.prediction == "eps":
            raise ValueError(f"{self.path} predicts noise, which tells nothing of the motion where all is noise: distil a model "
                             "of x0 or v")

    @cached_property
    def steps(self) -> Diffusion:
        """Those of the teacher: its diffusion, respaced."""
        return self.teacher.diffusion.respaced(self.parts * self.steps_per_part + 1)

    @cached_property
    def config(self) -> LSReMGMConfig:
        """The student's: guidance is part of what it has learned, so it always has its text, and asks its network once a step."""
        return replace(self.teacher.config, sampler="consistency", sampling_steps=self.sampling_steps, cond_mask_prob=0.0,
                       guidance_scale=1.0)  # fmt: skip

    def student(self) -> LSReMGM:
        """A model with the teacher's weights, statistics and parts."""
        made = self.teacher.copied()
        made.networks.requires_grad_(True)
        made.config = self.config
        return made

    def loss(self, student: LSReMGM, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms (B,) of one part per sample. Teacher and student read the same text, perturbed as in the teacher's training."""
        samples, teacher = draws.samples, self.teacher.to(student.device)
        motion, mask = student.masked(batch)
        size, device = len(motion), motion.device
        # Drawn in this order, the noise last: its first frames then do not depend on how far a batch is padded.
        k = self.steps_per_part * (1 + randint(samples, self.parts, (size,), device=device))
        text = student.text_to_train_on(batch, samples)
        with torch.no_grad():
            x0, mask = student.to_diffused(motion, mask, samples)
        noise = randn(samples, x0.shape, device=device, dtype=x0.dtype)
        twice = text[torch.arange(2 * size, device=device) % size]
        both = partial(teacher.denoiser, text=twice, mask=stack_conditions(mask, 2), drop=dropped_rows(size, 2, device))
        terms = consistency_loss(partial(student.denoiser, text=text, mask=mask), guided(both, self.guidance_scale), x0, k, noise,
                                 mask, self.steps, self.steps_per_part)  # fmt: skip
        calm_power = student.loss_weights(has_target=False).calm_power
        return {**terms, "loss": terms["loss"] * calm_weights(x0, mask, calm_power)} if calm_power else terms


def distillation_recipe(lesson: Lesson, corpus: Corpus, training: GeneratorOptions, drawing: Drawing) -> Recipe:
    """How a student is trained. ValueError or OSError, in a user's words, for what cannot be trained."""
    teacher = lesson.teacher
    teacher.features.require(corpus.features, f"the teacher {lesson.path}", f"dataset {corpus.folder}")
    recipe = generator_recipe(type(teacher), corpus, lesson.config, training, drawing, teacher.parts, lesson.loss)

    def fresh() -> LSReMGM:
        student = lesson.student()
        student.text_encoder = recipe.encoders["text"]
        return student

    learnt_from = stamp([corpus.stamp.encode(), checkpoint_stamp(lesson.path).encode()])
    return replace(recipe, build=fresh, stamp=learnt_from, card=card(lesson, corpus))


def card(lesson: Lesson, corpus: Corpus) -> str:
    """README.md of a student's checkpoint: what it is, whom it learned from, how to use it."""
    return f"""# Text to motion in few steps

A model of kind {system_of(lesson.teacher).name}, distilled by `python -m train.train_distilled` from `{lesson.path}` on
`{corpus.folder.name}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps): a consistency function (Luo et al. 2023), learned
in {lesson.parts} parts of the way from noise to data with {lesson.steps_per_part} steps of the teacher in each, guidance
{lesson.guidance_scale:g} folded in, so that a step asks the network once. It samples in {lesson.sampling_steps} steps unless told
otherwise.
The terms of the dataset's and the teacher's licences hold for these weights.

This folder alone is enough to sample:

    python -m sample.sample --model_path THIS_FOLDER --text_prompt "a person walks forward"
"""
