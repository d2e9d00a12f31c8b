"""What a model can do, and what is asked of it: code asks for one of these, never for a system. Loads without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

from protos.flags import BATCH_SIZE, Bounded, Range

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from data_loaders.edit_masks import TargetLocation
    from data_loaders.text import Caption
    from diffusion.samplers import SampledStep, SamplerName


@dataclass(frozen=True)
class VectorSpace:
    """Where a model puts texts and motions: vectors of `dim` numbers, of motions of `frame_limits` frames.

    `similarity` is what its training brought together; `made_by` names the model in errors.
    """

    made_by: str
    dim: int
    frame_limits: tuple[int, int]
    similarity: Literal["cosine", "euclidean"]


@runtime_checkable
class Embeds(Protocol):
    """Brings texts and motions into one space."""

    def space(self) -> VectorSpace: ...

    def encode_text(self, texts: Sequence[str | Caption]) -> Tensor:
        """Vectors (N, C) on the CPU. Equal texts have equal rows."""

    def encode_motion(self, motions: Sequence[np.ndarray], batch_size: int | None = None) -> Tensor:
        """Vectors (N, C) on the CPU of features [(T, D)] in their units, in their order. ValueError for one it cannot read."""


@runtime_checkable
class EstimatesLength(Protocol):
    """Says how long what a text says takes."""

    def estimate(self, texts: Sequence[str], seeds: Sequence[int]) -> list[int]:
        """Frames of each text, at least one, drawn by its seed."""


@runtime_checkable
class ReadsWords(Protocol):
    """Reads texts as words of a source (`model/evaluator_words.py`) that is given to it."""

    def read_through(self, words: Any) -> None: ...


@dataclass(frozen=True)
class Guidance:
    """How strongly the motion of several people follows texts: all of them together, the one about all people, those about one
    each; and a reaction the action. None: as the model's configuration says.
    """

    together: float | None = None
    interaction: float | None = None
    individual: float | None = None
    action: float | None = None


@dataclass(frozen=True)
class Request:
    """One motion to make: what it shows, its length in frames, and the seed of its noise.

    `text`: of a model that makes motion piece by piece perhaps several, one for each; of two people what they do together,
    with `individual_texts` about each, else these follow from it (model/individual_texts.py). What else may be given has no
    batch axis: `motion` (T, F) in feature units with `keep` (T, F or 1) True where it stays, an edit; `prefix` (context, F) in
    feature units, how the motion begins, part of the result with `include_prefix`; `target`, where it ends, (8, 3) and (8,);
    `action`, the number of an action; `actor` (T, D), what the other one does, features of one person in the world in which the
    reaction is made: the actor starts at the origin and faces +Z.
    """

    text: str | Sequence[str]
    frames: int
    seed: int = 0
    motion: Tensor | None = None
    keep: Tensor | None = None
    prefix: Tensor | None = None
    include_prefix: bool = False
    target: TargetLocation | None = None
    action: int | None = None
    individual_texts: tuple[str, str] | None = None
    actor: Tensor | None = None


@dataclass(frozen=True)
class Decoding:
    """How motion is made; None takes what the model's configuration says. `sampling_steps`: 20, "ddim20", ... `temperature`, and
    the share `top_k` of the codes that are never drawn, are of models that decode tokens.

    One `guidance_scale` is by all texts together, 1 following them without guidance.
    """

    guidance_scale: float | Guidance | None = None
    sampler: SamplerName | None = None
    sampling_steps: int | str | None = None
    smoothing: float | None = None
    eta: float | None = None
    order: int | None = None
    temperature: float | None = None
    top_k: float | None = None
    on_step: Callable[[SampledStep], None] | None = None
    batch_size: int = 64


@dataclass(frozen=True)
class Cleanup(Bounded):
    """What is done to the joints that a model has made."""

    jitter_filter: Annotated[float, Range(0, 1000)] = 0.0
    """Frequency in Hz from which on movement is taken for jitter and filtered out; 0: none is."""
    foot_lock: bool = False
    """Whether planted feet are held still."""


AS_MADE = Cleanup()
Precision = Literal["fp32", "bf16", "int8"]  # the numbers of a trained model's linear layers (model/precision.py)
OWN = Decoding()  # everything as the model's configuration says


@runtime_checkable
class Tokenises(Protocol):
    """Tells motion by codes: its configuration says of how many frames a token is (`downsampling`), how many codes tell a token
    (`num_quantizers`), and out of how many (`num_codes`).
    """

    def encode(self, motions: Sequence[np.ndarray]) -> list[Tensor]:
        """Ids [(N, Q)] on the CPU of features [(T, D)] in their units, of whole tokens. ValueError for one without a token."""

    def decode(self, ids: Sequence[Tensor]) -> list[Tensor]:
        """Features [(frames, D)] in their units of ids [(N, Q)], -1 being no code."""

    def reconstruct(self, motions: Sequence[np.ndarray], padded_to: int | None = None) -> list[Tensor]:
        """Features [(T, D)] in their units as tokens tell them; padded_to: of motions that are padded to so many frames first."""


@runtime_checkable
class Generates(Protocol):
    """Makes motion. Its configuration says `features`, `max_frames`, whether it `reads_text`, and its `own_guidance`: how
    strongly it follows what is asked, None where that is not to be chosen.
    """

    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units, all made at once. ValueError for a length or a setting that it cannot take."""

    def completed(self, made: Tensor) -> Tensor:
        """Features (T, D) of full width of one of them: the same, unless it makes only some of the columns."""


@dataclass(frozen=True)
class Passage:
    """A text, and for how many frames of a long motion it holds."""

    text: str
    frames: int


@runtime_checkable
class Composes(Protocol):
    """Makes motion of any length, of one text after another. Its configuration says what that of `Generates` does."""

    def compose(self, passages: Sequence[Passage], seed: int = 0, decoding: Decoding = OWN) -> Iterator[Tensor]:
        """Features (n, D) in their units, on the CPU, of the columns that it makes, some frames at a time as they are made: what
        is held does not grow with the length. One passage that it can make as a whole is the motion that `generate` makes.
        ValueError for a setting that it cannot take."""


@runtime_checkable
class Inpaints(Protocol):
    """Makes what is left open of a motion that is given."""

    def inpaints(self) -> bool:
        """Whether requests may hold `motion` and `keep`."""


@runtime_checkable
class Edits(Protocol):
    """Makes motion of given poses, so that motion can be edited by their codes (data_loaders/pose_edits.py). Its configuration
    says `features`."""

    def realise(self, poses: Sequence[Tensor], requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(4 N, D)] in their units, on the CPU, of poses [(N, 70)], the numbers of their codes, with the detail
        that text and seed of each request add. ValueError for a setting that it does not take."""


@runtime_checkable
class Reacts(Protocol):
    """Makes what one person does in answer to another. Its configuration says `features`, of both, `max_frames`, whether it
    `reads_text`, and its `guidance`."""

    def react(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units of the one who reacts, in the actor's world, of requests that hold the `actor`.
        An empty text is none. ValueError for what it cannot take."""

    def stream(self, actor: Iterable[Tensor], request: Request, decoding: Decoding = OWN) -> Iterator[Tensor]:
        """Features of the one who reacts for every few frames (n, D) of the one who acts, as they come, none of which reads a
        later frame of the action. ValueError for a model that reads actions as a whole."""

    def embed_reactions(self, actors: Sequence[Tensor], reactions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean latents (N, C) of both, features [(T, D)] in their units, on the CPU."""


@dataclass(frozen=True)
class Captioning:
    """How motion is put into words."""

    beams: Annotated[int, Range(1, 64)] = 5
    """Captions of each motion that are followed at once, of which the likeliest is taken (1: greedy)."""
    max_new_tokens: Annotated[int, Range(1, 512)] = 32
    """Tokens of a caption, at most."""
    prompt: str = ""
    """Words that a caption begins with, which are part of it."""
    batch_size: Annotated[int, BATCH_SIZE] = 32
    """Motions put into words at once."""


CAPTIONING = Captioning()


@runtime_checkable
class Describes(Protocol):
    """Says in words what motion shows. Its configuration says `features`, `min_frames` and `max_frames`."""

    def describe(self, motions: Sequence[np.ndarray], decoding: Captioning = CAPTIONING) -> list[str]:
        """Captions of features [(T, D)] in their units. ValueError for one it cannot read."""
