"""python -m benchmarks.tokens: CPU seconds of text to motion over tokens and of a tokenizer's training step, at LaMP's size.

The reference is what the published recipe computes: torch's own transformer, the guided passes one after the other, texts read by
the Q-Former in every call; convolutions channels first. Both have the same weights and noise and have to come to the same tokens.
"""

import os
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import least
from benchmarks.torch_layers import with_torch_convolutions
from data_loaders.features import HUMANML3D
from diffusion.token_decoding import decode_masked
from model.capabilities import OWN, Request
from model.lamp import LaMP
from model.lamp_config import LaMPConfig
from model.layers import sinusoidal_table
from model.official.token_transformers import transformer_name
from model.token_networks import HEAD_EPS
from model.token_transformer_config import LAMP, TokenTransformerConfig
from model.token_transformers import TokenTransformer, noise_of, read_by_queries
from model.vqvae import VQVAE
from model.vqvae_config import VQVAEConfig
from protos.flags import BATCH_SIZE, LAYERS, Range
from protos.options import command, run_command

TEXTS = ["a person walks forward and waves", "someone bows", "a man jumps twice and turns to the left", "a person runs"]


class Reference(nn.Module):
    """The published transformer in torch's layers, sequence first, with the weights of ours."""

    def __init__(self, ours: TokenTransformer):
        super().__init__()
        c, network = ours.config, ours.transformer
        dim = c.latent_dim
        self.token_emb = nn.Embedding(c.num_codes + 2, c.code_dim)
        self.input_process = nn.Module()
        self.input_process.poseEmbedding = nn.Linear(c.code_dim, dim)
        self.cond_emb = nn.Linear(c.condition_dim, dim)
        layer = nn.TransformerEncoderLayer(dim, c.num_heads, c.ff_size, c.dropout, activation="gelu")
        self.seqTransEncoder = nn.TransformerEncoder(layer, c.num_layers, enable_nested_tensor=False)
        self.output_process = nn.Module()
        self.output_process.dense, self.output_process.LayerNorm = nn.Linear(dim, dim), nn.LayerNorm(dim, HEAD_EPS)
        self.output_process.poseFinal = nn.Linear(dim, c.num_codes)
        self.register_buffer("pe", sinusoidal_table(c.max_positions, dim)[:, None], persistent=False)
        self.load_state_dict({transformer_name(name): value for name, value in network.state_dict().items()})

    def forward(self, ids: Tensor, condition: Tensor) -> Tensor:
        x = self.input_process.poseEmbedding(self.token_emb(ids)).transpose(0, 1)  # (N, B, C)
        x = torch.cat([self.cond_emb(condition)[None], x + self.pe[: len(x)]])
        bias = torch.ones(len(x), len(x)).tril()
        x = self.seqTransEncoder(x, mask=bias)[1:]
        made = self.output_process
        return made.poseFinal(made.LayerNorm(F.gelu(made.dense(x)))).transpose(0, 1)


@dataclass(frozen=True, kw_only=True)
class TokensOptions:
    """What is timed."""

    batch_sizes: tuple[Annotated[int, BATCH_SIZE], ...] = (1, 32)
    """Motions made at once."""
    num_layers: Annotated[int, LAYERS] = 12
    """Layers of the Q-Former; 12 as published."""
    rounds: Annotated[int, Range(1, 1000)] = 3
    """Runs of each, of which the one that cost least counts."""


def run(options: TokensOptions) -> None:
    """Prints a line for each kind of work."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    model = lamp_model(options.num_layers)
    for size in options.batch_sizes:
        compare_generation(model, size, options.rounds)
    compare_training(model.tokenizer, options.rounds)


def lamp_model(num_layers: int) -> TokenTransformer:
    """LaMP's masked transformer of published size, untrained."""
    tokenizer = VQVAE(VQVAEConfig(features=HUMANML3D, dropout=0.0)).eval()
    tokenizer.network.codebooks.codes.normal_()
    tokenizer.network.codebooks.started.fill_(True)
    lamp = LaMP(LaMPConfig(text_tower="minilm", num_layers=num_layers), None, {"tokenizer": tokenizer})
    own = {name: LAMP[name] for name in ("latent_dim", "num_heads", "attention", "key_padding")}
    return TokenTransformer(TokenTransformerConfig(condition_dim=768, **own), None, {"lamp": lamp}).eval()


@torch.no_grad()
def compare_generation(model: TokenTransformer, size: int, rounds: int) -> None:
    """Ten steps of 49 tokens, texts stored in ours."""
    requests = [Request(TEXTS[i % len(TEXTS)], 196, seed=i) for i in range(size)]
    reference, scale = Reference(model).eval(), model.config.guidance_scale

    def published() -> Tensor:
        text = model.encode_text([request.text for request in requests])
        condition = read_by_queries(model.parts["lamp"].qformer, model.networks["text_reader"], text)
        nothing = torch.zeros_like(condition)

        def logits(ids: Tensor) -> Tensor:
            told, without = reference(ids, condition), reference(ids, nothing)
            return without + scale * (told - without)

        mask = torch.ones(size, 49, dtype=torch.bool)
        ids = decode_masked(logits, torch.full((size, 49), model.transformer.mask_id), mask, model.transformer.mask_id,
                            model.config.sampling_steps, model.sampling(OWN), noise_of(requests, model.device))  # fmt: skip
        return torch.stack([model.tokenizer.decode([row[:, None]])[0] for row in ids])

    ours, theirs = least(lambda: model.generate(requests), published, rounds=rounds, warm=True)
    same = float((torch.stack(ours.result) - theirs.result).abs().amax((1, 2)).lt(1e-3).float().mean())
    print(f"{size:3} motions, {model.config.sampling_steps} steps: ours {ours.cpu:.2f} s, published recipe {theirs.cpu:.2f} s "
          f"({theirs.cpu / ours.cpu:.2f} x), same tokens in {100 * same:.0f} %")  # fmt: skip


def compare_training(tokenizer: VQVAE, rounds: int) -> None:
    """Forward and backward pass of encoder and decoder on 64 windows of 64 frames."""
    x, network = torch.randn(64, 64, 263), tokenizer.network
    reference = with_torch_convolutions(network, tokenizer.config)

    def step(coder: nn.Module) -> Tensor:
        y = coder.decoder(coder.encoder(x))
        y.square().mean().backward()
        return y.detach()

    network.requires_grad_(True)
    ours, theirs = least(lambda: step(network), lambda: step(reference), rounds=rounds, warm=True)
    gap = float((ours.result - theirs.result).abs().max())
    print(f"a tokenizer's step of 64 windows: ours {ours.cpu:.2f} s, torch's convolutions {theirs.cpu:.2f} s, apart by {gap:.1e}")


main = command(TokensOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
