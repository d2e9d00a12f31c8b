"""Motion to text: a language model goes on with what LaMP's queries read of a motion. Li et al. 2025 (LaMP-M2T).

As published OPT with low-rank additions, and a Q-Former that is trained along; or a small decoder in the words of the language
model that LaMP stands on, whose Q-Former is shared.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from diffusion.autoregression import decode_beams, decode_greedily
from model.capabilities import CAPTIONING, Captioning
from model.caption_words import Words, words_of
from model.captioner_config import CaptionerConfig
from model.embedder import lengths_to_mask
from model.lamp import LaMP
from model.lamp_losses import captioning
from model.language_decoder import LanguageDecoder, Past
from model.model import Draws, Model
from model.qformer import QFormer
from model.text_encoders import TextFeatures
from protos.files import printable


class Captioner(Model):
    """Stands on the part `lamp`, through which it reads motion."""

    def __init__(self, config: CaptionerConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 words: Words | None = None):  # fmt: skip
        """words: replaces those that the configuration names."""
        if "lamp" not in (parts or {}):
            raise ValueError("a captioner reads motion through LaMP: it needs the part lamp")
        lamp: LaMP = parts["lamp"]
        if config.words == "lamp" and config.language_dim != lamp.config.latent_dim:
            raise ValueError(f"language_dim {config.language_dim}: the words of LaMP have {lamp.config.latent_dim} channels")
        networks: dict[str, nn.Module] = {
            "language": LanguageDecoder(config, None if config.words == "lamp" else config.vocabulary),
            "projection": nn.Linear(lamp.config.latent_dim, config.language_dim),
        }
        if config.own_qformer:
            networks["qformer"] = copy.deepcopy(lamp.qformer)
        super().__init__(config, statistics, networks, parts=parts)
        self._words = words
        if config.lora_rank:
            for name, parameter in self.networks["language"].named_parameters():
                parameter.requires_grad_(".more_" in name)
        if config.own_qformer:
            self.networks["qformer"].requires_grad_(True)

    @property
    def lamp(self) -> LaMP:
        """Reads motion."""
        return self.parts["lamp"]

    @property
    def language(self) -> LanguageDecoder:
        return self.networks["language"]

    @property
    def qformer(self) -> QFormer:
        return self.networks["qformer"] if self.config.own_qformer else self.lamp.qformer

    @property
    def words(self) -> Words:
        """Texts as ids, and back. FileError where the files of its tokenizer are not on this machine."""
        if self._words is None:
            self._words = words_of(self.config.words, self.lamp.config.text_tower)
        return self._words

    @property
    def word_weights(self) -> Tensor:
        """(V, C): of words, said and read."""
        return self.lamp.qformer.words.weight if self.language.words is None else self.language.words.weight

    def read(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (B, Q, C) of the queries that read normalised motion (B, T, D), mask (B, T)."""
        latents, keep, _ = self.lamp.latents(motion, mask)
        return self.lamp.read_motion(latents, keep, self.qformer)

    def shown(self, mask: Tensor) -> Tensor | None:
        """Which queries (B, Q) of motion, mask (B, T), count; None for all."""
        frames = self.lamp.tokenizer.config.downsampling
        size = torch.arange(-(-mask.shape[1] // frames), device=mask.device)
        return self.lamp.asked(size < (mask.sum(1) // frames)[:, None])

    def prefix(self, motion: Tensor, mask: Tensor) -> Tensor:
        """What the language model goes on with (B, Q, C)."""
        return self.networks["projection"](self.read(motion, mask))

    def embedded(self, ids: Tensor) -> Tensor:
        """Words (..., C) of ids."""
        return F.embedding(ids, self.word_weights)

    def logits(self, hidden: Tensor, among: Tensor | None = None) -> Tensor:
        """(..., V) of the words that follow, -inf at those that it cannot say; or those of ids `among` (K,), of any words."""
        said = self.said_words if among is None else among
        if said is None:
            return hidden @ self.word_weights.T
        found = hidden @ self.word_weights[said].T  # (..., K)
        if among is not None:
            return found
        return found.new_full((*hidden.shape[:-1], len(self.word_weights)), -torch.inf).index_copy(-1, said, found)

    @property
    def said_words(self) -> Tensor | None:
        """Ids (K,) of the words that it can say; None for all."""
        return None if self.language.said is None else self.language.said.nonzero()[:, 0]

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Cross entropy of the words of each motion's caption and of its end."""
        text = batch.text_features["text"].to(self.device)
        motion, mask = self.masked(batch)
        return {"cross_entropy": self.caption_loss(self.prefix(motion, mask), text.ids, text.mask, self.shown(mask))}

    def caption_loss(self, prefix: Tensor, ids: Tensor, mask: Tensor, shown: Tensor | None = None) -> Tensor:
        """Of captions ids (B, L), mask (B, L), said after a prefix (B, Q, C), which foretells the first of them; shown (B, Q)."""
        hidden = self.hidden_of(prefix, ids, mask, shown)[:, prefix.shape[1] - 1 : -1]
        return captioning(lambda *given: self.logits(*given).float(), hidden, ids, mask, among=self.said_words)

    def hidden_of(self, prefix: Tensor, ids: Tensor, mask: Tensor, shown: Tensor | None = None) -> Tensor:
        """Hidden states (B, Q + L, C) at every place of a prefix, of which all or those `shown` (B, Q) are seen, and of the words
        after it.
        """
        keep = torch.cat([torch.ones_like(prefix[..., 0], dtype=torch.bool) if shown is None else shown, mask], dim=1)
        return self.language(torch.cat([prefix, self.embedded(ids)], dim=1), keep)[0]

    @torch.no_grad()
    def describe(self, motions: Sequence[np.ndarray], decoding: Captioning = CAPTIONING) -> list[str]:
        """Captions of features [(T, D)] in their units, beginning with the prompt. ValueError for one it cannot read."""
        self.lamp.check_motions(motions)
        captions: list[str] = []
        for start in range(0, len(motions), decoding.batch_size):
            rows = [torch.from_numpy(np.array(each, np.float32)) for each in motions[start : start + decoding.batch_size]]
            mask = lengths_to_mask(torch.tensor([len(row) for row in rows])).to(self.device)
            motion = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)
            prefix = self.eval().prefix(self.normalise(motion) * mask[..., None], mask)
            captions += [self.words.text(ids) for ids in self.say(prefix, decoding, self.shown(mask))]
        return captions

    def say(self, prefix: Tensor, decoding: Captioning, shown: Tensor | None = None) -> list[list[int]]:
        """Ids of captions, with those of the prompt, that go on with a prefix (B, Q, C), shown (B, Q).

        ValueError for more than it can say.
        """
        prompt, room = self.words.begin(printable(decoding.prompt)), self.config.language_positions - prefix.shape[1]
        if len(prompt) + decoding.max_new_tokens > room:
            raise ValueError(f"--prompt of {len(prompt)} tokens and --max_new_tokens {decoding.max_new_tokens}: this model says "
                             f"at most {room} tokens, shorten one of them")  # fmt: skip
        said = self.go_on(prefix, prompt, self.words.stop_id, decoding.max_new_tokens, decoding.beams, shown)
        return [[*prompt, *ids] for ids in said]

    def go_on(self, prefix: Tensor, prompt: Sequence[int], stop_id: int, most: int, beams: int,
              shown: Tensor | None = None) -> list[list[int]]:  # fmt: skip
        """Ids that follow a prefix (B, Q, C), shown (B, Q), and the ids of a prompt."""
        given = self.embedded(torch.tensor([list(prompt)], dtype=torch.long, device=prefix.device)).expand(len(prefix), -1, -1)
        keep = None if shown is None else F.pad(shown, (0, len(prompt)), value=True)
        hidden, past = self.language(torch.cat([prefix, given.to(prefix)], dim=1), keep)
        state: list[tuple[Past, Tensor | None]] = [(past, keep)]

        def advance(ids: Tensor, rows: Tensor) -> Tensor:
            past, keep = state[0]
            keep = None if keep is None else F.pad(keep[rows], (0, 1), value=True)
            before = [(key[rows], value[rows]) for key, value in past]
            hidden, past = self.language(self.embedded(ids)[:, None], keep, before)
            state[0] = past, keep
            return self.logits(hidden[:, -1]).float()

        first = self.logits(hidden[:, -1]).float()
        if beams == 1:
            return decode_greedily(first, advance, stop_id, most)
        return decode_beams(first, advance, stop_id, most, beams)


class CaptionTexts:
    """Captions as a captioner is trained on them: ids and mask, the end last."""

    def __init__(self, words: Words, most: int):
        self.words, self.most = words, most

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Of captions that are cut to so many tokens."""
        rows = [torch.tensor(self.words.whole(text, self.most)) for text in texts]
        mask = lengths_to_mask(torch.tensor([len(row) for row in rows]))
        return TextFeatures(None, None, mask, nn.utils.rnn.pad_sequence(rows, batch_first=True))
