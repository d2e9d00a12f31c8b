"""What commands that make motion are told: how a model decodes, what a run makes and writes, and where the weights that come with
the code lie.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from model.capabilities import Decoding, Precision
from protos.flags import BATCH_SIZE, GUIDANCE, SAMPLING_STEPS, SEED, SHARE, Range
from sample.exports import ExportSettings

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
STARTER, TMR, REACTION, CAPTIONER, PGR2M = (
    CHECKPOINTS / name for name in ("starter", "tmr", "reaction", "captioner", "pgr2m")
)


@dataclass(frozen=True, kw_only=True)
class GuidanceSettings:
    """How a model makes motions."""

    guidance_scale: Annotated[float, GUIDANCE] | None = None
    """Strength of classifier-free guidance (default: the checkpoint's; 1 follows the text without guidance)."""
    sampler: Literal["ddpm", "ddim", "plms", "dpmpp", "consistency"] | None = None
    """How the diffusion is run backwards (default: the checkpoint's)."""


@dataclass(frozen=True, kw_only=True)
class DecodingSettings(GuidanceSettings):
    """In how many steps it makes them."""

    sampling_steps: Annotated[int, SAMPLING_STEPS] | None = None
    """Denoising steps, or those in which tokens are filled in (default: the checkpoint's)."""
    temperature: Annotated[float, Range(0, 100)] | None = None
    """Of models that decode tokens: temperature at which they are drawn; 0: the likeliest (default: the checkpoint's)."""
    top_k: Annotated[float, SHARE] | None = None
    """Of these: share of the codes, the unlikeliest, that are never drawn (default: the checkpoint's)."""

    def decoding(self, batch_size: int) -> Decoding:
        """The same for the model, which makes so many motions at once."""
        return Decoding(self.guidance_scale, self.sampler, self.sampling_steps, temperature=self.temperature, top_k=self.top_k,
                        batch_size=batch_size)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunSettings(ExportSettings):
    """What a run makes and writes."""

    num_repetitions: Annotated[int, Range(1, 100_000)] = 3
    """Motions per sample, each from its own noise."""
    seed: Annotated[int, SEED] = 10
    """Seed; the same seed gives the same motions, whatever the batch size."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    precision: Precision = "fp32"
    """Numbers of the networks' linear layers: bf16 halves their memory, and is faster where the hardware multiplies such numbers;
    int8 quarters it, on a CPU alone, and is faster for a few motions of a large model that decodes tokens. Motions change a
    little."""
    output_dir: Path | None = None
    """Folder for the files (default: outputs/<checkpoint>_<prompt>_seed<seed>); an existing one is kept, `_2` is added."""
    video: bool = True
    """Write mp4 videos and a PNG strip (--no_video: motions only)."""
    gif: bool = False
    """Also write an animated GIF per motion."""
    html: bool = False
    """Also write a page per prompt that plays its motions in 3D in any browser, without a network."""
