"""Text to motion over pose codes: a base transformer says the pose of one token after another, a refine transformer adds the ids
of the tokenizer's codebooks. CoMo (arXiv 2403.13900) and PGR2M (arXiv 2512.22464).

Keywords belong to motions of the published data; a text alone has none, and their slots hold what the configuration says.
"""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from data_loaders.pose_code_table import pose_code_table
from data_loaders.pose_codes import indices_from_codes
from diffusion.pose_decoding import Advance, decode_poses, hardened, spoilt_poses
from diffusion.token_decoding import Gumbel, TokenSampling, decode_residual, layers_to_train
from model.capabilities import OWN, Decoding, Request
from model.lsremgm import check_lengths
from model.model import Draws, Learnt, Model, require_only
from model.pgr2m import NUM_CODES, NUM_GROUPS, PGTokenizer, codes_of_ids
from model.pgr2m_config import TOKEN_FRAMES
from model.pgr2m_networks import BITS, END, MOST_TOKENS, PAD, Past, PoseRefiner, PoseTransformer
from model.pgr2m_transformer_config import ALTERNATIVES, PoseRefinerConfig, PoseTransformerConfig
from model.quantizers import NONE
from model.text_encoders import EncodesTexts, TextFeatures
from model.token_transformers import IGNORED, RESIDUAL, OverTokens, cross_entropy, noise_of, text_of
from protos.randomness import rand, randint, randn

log = logging.getLogger(__name__)
UNHEEDED = ("guidance_scale", "sampling_steps")  # of other ways to make motion, for which scripts may ask of all models
KEYWORDS = "keywords"  # the role of what is read from a motion's file of keywords: (B, slots * alternatives, D)


@lru_cache(maxsize=1)
def group_sizes() -> tuple[int, ...]:
    """Codes of each group."""
    return tuple(group.bins for group in pose_code_table().groups)


class OverPoses(OverTokens):
    """What both transformers share: the condition, of a text and of keywords."""

    config: PoseTransformerConfig | PoseRefinerConfig

    @property
    @abstractmethod
    def tokenizer(self) -> PGTokenizer:
        """Tells motion by pose codes and what they leave."""

    def condition(self, text: TextFeatures) -> Tensor:
        """(B, 1 + slots, D) of texts alone."""
        return torch.cat([text.pooled[:, None], self.keywords_of(text)], dim=1)

    def keywords_of(self, text: TextFeatures) -> Tensor:
        """What stands in the slots (B, slots, D) where there are no keywords."""
        slots = self.config.num_keywords
        if self.config.keywords == "sentence":
            return text.pooled[:, None].expand(-1, slots, -1)
        return F.pad(text.tokens[:, :slots], (0, 0, 0, max(slots - text.tokens.shape[1], 0)))

    def condition_to_train(self, batch: Batch, draws: Draws) -> Tensor:
        """(B, 1 + slots, D) of a batch, with keywords where it has them, some of which are left out."""
        config, text = self.config, batch.text_features["text"].to(self.device)
        slots, size = config.num_keywords, len(text)
        which = randint(draws.samples, ALTERNATIVES, (size, slots), device=self.device)
        chances = rand(draws.samples, (size, 1 + slots), device=self.device)
        keywords = self.keywords_of(text)
        if KEYWORDS in batch.text_features and slots:
            given = batch.text_features[KEYWORDS].to(keywords).unflatten(1, (slots, ALTERNATIVES))  # (B, slots, 3, D)
            if given.shape[-1] != text.pooled.shape[-1]:
                raise ValueError(f"keywords are features of {given.shape[-1]} channels, those that {config.text_encoder} makes "
                                 f"of texts have {text.pooled.shape[-1]}: take the encoder that made them")  # fmt: skip
            keywords = given.take_along_dim(which[..., None, None], dim=2)[:, :, 0]
        if self.networks.training:
            keywords = keywords * kept_keywords(chances[:, 1:] < chances[:, :1], config.keyword_drop)[..., None]
        return torch.cat([text.pooled[:, None], keywords], dim=1)


class PoseTextTransformer(OverPoses):
    """The base transformer, on the part `tokenizer`: makes motion of pose codes alone."""

    what = "base transformer over pose codes"
    config: PoseTransformerConfig

    def __init__(self, config: PoseTransformerConfig, statistics: Statistics | None = None,
                 parts: Mapping[str, Model] | None = None, text_encoder: EncodesTexts | None = None):  # fmt: skip
        """text_encoder replaces the frozen one that the configuration names."""
        if "tokenizer" not in (parts or {}):
            raise ValueError("a transformer over pose codes needs the part tokenizer")
        super().__init__(config, statistics, {"transformer": PoseTransformer(config)}, parts=parts)
        self.text_encoder = text_encoder

    @property
    def tokenizer(self) -> PGTokenizer:
        return self.parts["tokenizer"]

    @property
    def transformer(self) -> PoseTransformer:
        return self.networks["transformer"]

    def told(self, x: Tensor, keep: Tensor) -> Tensor:
        return self.tokenizer.pose_ids(x, keep)

    def loss(self, batch: Batch, draws: Draws) -> Learnt:
        """Binary cross entropy of all bits of every token, the one that ends a motion among them."""
        condition = self.condition_to_train(batch, draws)
        ids, lengths = self.ids_of(batch)
        size, device, config = ids.shape[1], ids.device, self.config
        wanted = bits_of(ids, lengths)  # (B, N + 1, 394)
        told = wanted[:, :size]
        # As many numbers for the longest motion there can be: they do not depend on how far a batch is padded
        kept = rand(draws.samples, (len(ids), MOST_TOKENS, BITS), device=device)[:, :size] < config.keep_prob
        noise = randn(draws.samples, (len(ids), size, BITS), device=device)
        if float(torch.rand(1, generator=draws.step, device=draws.step.device)) >= config.teacher_forcing:
            told = spoilt_poses(told, kept, noise, group_sizes())
        logits = self.transformer(told, condition).float()
        rows = torch.arange(size + 1, device=device)
        loss = bits_loss(logits, wanted, lengths)
        right = (hardened(logits.detach(), group_sizes()) * wanted)[..., :NUM_CODES].sum(-1)[rows < lengths[:, None]]
        return Learnt({"loss": loss}, {}, {"accuracy": right.mean() / NUM_GROUPS})

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units. Raises LengthError, and ValueError for what it does not take."""
        ids = self.make_ids(requests, decoding)
        return [row[: request.frames] for row, request in zip(self.tokenizer.decode(ids), requests, strict=True)]

    def realise(self, poses: Sequence[Tensor], requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(4 N, D)] in their units of poses [(N, 70)], to which this model adds nothing."""
        return self.tokenizer.realise(poses, requests, decoding)

    @torch.no_grad()
    def make_ids(self, requests: Sequence[Request], decoding: Decoding) -> list[Tensor]:
        """Pose codes [(N, 70)] of what is asked for, in whole tokens: the model's own end is not heeded."""
        check_lengths([request.frames for request in requests], self.features, self.config.max_frames)
        self.check_decoding(decoding)
        for request in requests:
            require_only(request, (), "this model does not take it")
        condition = self.eval().conditions([text_of(request) for request in requests])
        lengths = torch.tensor([-(-request.frames // TOKEN_FRAMES) for request in requests], device=self.device)
        return self.decode_tokens(condition, decoding, requests, lengths, lengths)

    def check_decoding(self, decoding: Decoding) -> None:
        require_only(decoding, ("temperature", "top_k", *UNHEEDED), "this model says one pose after another")
        for name in UNHEEDED:
            if getattr(decoding, name) not in (None, 1):
                log.warning("%s is ignored: this model says one pose after another, and always follows its text", name)

    def continued(self, request: Request, before: Tensor | None, decoding: Decoding) -> Tensor:
        condition = self.eval().conditions([request.text])
        count = torch.tensor([-(-request.frames // TOKEN_FRAMES)], device=self.device)
        return self.decode_tokens(condition, decoding, [request], count, count, before)[0]

    def decode_tokens(self, condition: Tensor, decoding: Decoding, requests: Sequence[Request], shortest: Tensor,
                      longest: Tensor, before: Tensor | None = None) -> list[Tensor]:  # fmt: skip
        """Pose codes [(N, 70)] under conditions (B, S, D), of `shortest` to `longest` (B,) tokens: its own end lies between.
        before (M, 70): what one sample goes on from."""
        logits, past = self.transformer.first(condition)
        advance = advancing(self.transformer, past)
        for bits in () if before is None else poses_of(before[None].to(self.device))[0]:
            logits = advance(bits[None], torch.zeros(1, dtype=torch.long, device=self.device))
        made = decode_poses(logits, advance, group_sizes(), shortest, longest, self.sampling(decoding),
                            noise_of(requests, self.device))  # fmt: skip
        return [indices_from_codes(bits[:, :NUM_CODES]) for bits in made]


class PoseTextRefiner(OverPoses):
    """The refine transformer, on the part `base`, whose poses it adds detail to."""

    what = "refine transformer over pose codes"
    config: PoseRefinerConfig

    def __init__(self, config: PoseRefinerConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: EncodesTexts | None = None):  # fmt: skip
        """text_encoder replaces the frozen one that the configuration names."""
        if "base" not in (parts or {}):
            raise ValueError("a refine transformer adds to what another makes: it needs the part base")
        super().__init__(config, statistics, {"transformer": PoseRefiner(config)}, parts=parts)
        self.text_encoder = text_encoder
        if config.pose_embedding != "own":
            self._read_as_the_base(self.transformer.embedding, self.base.transformer.embedding)

    def _read_as_the_base(self, own: nn.Linear, other: nn.Linear) -> None:
        if own.weight.shape != other.weight.shape:
            raise ValueError(f"pose_embedding {self.config.pose_embedding}: the base has latent_dim {len(other.weight)}, not "
                             f"{len(own.weight)}")  # fmt: skip
        own.load_state_dict(other.state_dict())
        own.requires_grad_(self.config.pose_embedding != "frozen")

    @property
    def base(self) -> PoseTextTransformer:
        """Makes the poses."""
        return self.parts["base"]

    @property
    def tokenizer(self) -> PGTokenizer:
        return self.base.tokenizer

    @property
    def transformer(self) -> PoseRefiner:
        return self.networks["transformer"]

    def loss(self, batch: Batch, draws: Draws) -> Learnt:
        """Cross entropy of the ids of one codebook for each sample, of an early one more often."""
        chances = rand(draws.samples, (len(batch.texts), 1), device=self.device)
        condition = self.condition_to_train(batch, draws)
        ids, lengths = self.ids_of(batch)
        stage = layers_to_train(chances[:, 0], self.config.num_quantizers + 1) - 1
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        residual = ids[..., NUM_GROUPS:]
        logits = self.transformer(poses_of(ids), residual, stage, condition, mask).float()
        wanted = residual.take_along_dim(stage[:, None, None], dim=2)[..., 0]
        return cross_entropy(logits, wanted.masked_fill(~mask, IGNORED))

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units. Raises as `PoseTextTransformer.generate`."""
        poses = self.base.make_ids(requests, decoding)
        ids = self.refine(poses, requests, decoding)
        return [row[: request.frames] for row, request in zip(self.tokenizer.decode(ids), requests, strict=True)]

    def check_decoding(self, decoding: Decoding) -> None:
        self.base.check_decoding(decoding)

    def continued(self, request: Request, before: Tensor | None, decoding: Decoding) -> Tensor:
        made = self.base.continued(request, None if before is None else before[:, :NUM_GROUPS], decoding)
        known = made[:0] if before is None else before[:, :NUM_GROUPS].to(made)
        return self.refine([torch.cat([known, made])], [request], decoding)[0][len(known) :]

    @torch.no_grad()
    def refine(self, poses: Sequence[Tensor], requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Ids [(N, 70 + Q)] of poses [(N, 70)], by the text and with the seed of each request."""
        condition = self.eval().conditions([text_of(request) for request in requests])
        padded = pad_sequence([each.to(self.device) for each in poses], batch_first=True, padding_value=NONE)  # (B, N, 70)
        made = add_residuals(self.transformer, padded, condition, self.sampling(decoding),
                             noise_of(requests, self.device, RESIDUAL))  # fmt: skip
        return [torch.cat([own.to(row), row[: len(own)]], dim=-1) for own, row in zip(poses, made, strict=True)]

    @torch.no_grad()
    def realise(self, poses: Sequence[Tensor], requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(4 N, D)] in their units of poses [(N, 70)] with the ids that are added to them, to those of a long motion
        piece by piece."""
        require_only(decoding, ("temperature", "top_k", *UNHEEDED), "this model adds one codebook after another")
        made = []
        for whole, request in zip(poses, requests, strict=True):
            pieces = whole.split(MOST_TOKENS - 1)
            made.append(torch.cat(self.refine(pieces, [request] * len(pieces), decoding)))
        return self.tokenizer.decode(made)


def advancing(transformer: PoseTransformer, past: Past) -> Advance:
    """`diffusion.pose_decoding.Advance` of a transformer whose keys and values so far are `past`."""

    def advance(bits: Tensor, rows: Tensor) -> Tensor:
        nonlocal past
        if len(rows) < len(past[0][0]):  # some motions have ended
            past = [(key[rows], value[rows]) for key, value in past]
        logits, past = transformer.following(bits, past)
        return logits

    return advance


def add_residuals(transformer: PoseRefiner, poses: Tensor, condition: Tensor, sampling: TokenSampling,
                  gumbel: Gumbel | None = None) -> Tensor:  # fmt: skip
    """Ids (B, N, Q) of a tokenizer's codebooks for poses (B, N, 70), -1 beyond the ends of these."""
    mask = poses[..., 0] != NONE
    keep = None if bool(mask.all()) else mask  # attention to all is faster
    of_codebook = transformer.in_turn(poses_of(poses), condition, keep)

    def logits(layer: int, told: Tensor) -> Tensor:
        return F.pad(of_codebook(layer - 1, told[..., 1:]), (0, 1), value=-torch.inf)  # that none is added is never drawn

    # Poses stand where others have ids of a first codebook
    return decode_residual(logits, poses[..., 0].clamp(min=0), mask, transformer.num_quantizers + 1, sampling, gumbel)[..., 1:]


def poses_of(ids: Tensor) -> Tensor:
    """Bits (B, N, 394) of ids (B, N, 70 or more), those of END and PAD 0; a token of -1 has none."""
    return F.pad(codes_of_ids(ids[..., :NUM_GROUPS]), (0, BITS - NUM_CODES))


def bits_of(ids: Tensor, lengths: Tensor) -> Tensor:
    """Bits (B, N + 1, 394) of ids (B, N, 70 or more): behind the tokens of a motion, `lengths` (B,), END, and then PAD."""
    bits = F.pad(poses_of(ids), (0, 0, 0, 1))
    place = torch.arange(bits.shape[1], device=bits.device) - lengths[:, None]  # (B, N + 1)
    bits[..., END], bits[..., PAD] = place == 0, place > 0
    return bits


def bits_loss(logits: Tensor, wanted: Tensor, lengths: Tensor) -> Tensor:
    """Binary cross entropy (B,) of logits and bits (B, N + 1, 394), up to the token that ends each motion."""
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(-1)
    counted = torch.arange(each.shape[1], device=each.device) <= lengths[:, None]
    return (each * counted).sum(1) / (lengths + 1)


def kept_keywords(hit: Tensor, rule: str) -> Tensor:
    """Which slots (B, slots) stay of those that chance would leave out, `hit` (B, slots).

    published: its code takes hit as numbers of slots. The first is left out where any slot is not hit, the second where any is.
    """
    kept = torch.ones_like(hit)
    if rule == "each":
        kept = ~hit
    elif rule == "published" and hit.shape[1] > 1:
        kept[:, 0], kept[:, 1] = hit.all(1), ~hit.any(1)
    return kept
