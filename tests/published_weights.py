"""Small weights in the folders of published code."""

import json
from pathlib import Path
from typing import Any

import torch

from model.lsremgm_network import MotionDenoiser
from model.official.mdm import config_from_args, mdm_name

ARGS = {"dataset": "humanml", "arch": "trans_enc", "layers": 2, "latent_dim": 32, "diffusion_steps": 5,
        "noise_schedule": "cosine", "cond_mask_prob": 0.1, "emb_trans_dec": False, "unconstrained": False}


def published(folder: Path, args: dict[str, Any], average: bool = False) -> MotionDenoiser:
    """A folder as the original writes it, with random weights; returns our network of the same weights."""
    config = config_from_args(args)
    torch.manual_seed(1)
    network = MotionDenoiser(config, config.features.width).eval()
    state = {mdm_name(name, config): value for name, value in network.state_dict().items()}
    state["sequence_pos_encoder.pe"] = torch.zeros(5000, 1, 32)
    state["embed_timestep.sequence_pos_encoder.pe"] = torch.zeros(5000, 1, 32)
    folder.mkdir(parents=True)
    (folder / "args.json").write_text(json.dumps(args))
    content = {"model": {k: torch.zeros_like(v) for k, v in state.items()}, "model_avg": state} if average else state
    torch.save(content, folder / "model000100000.pt")
    return network
