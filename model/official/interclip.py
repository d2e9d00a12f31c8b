"""InterCLIP as published with InterGen (Liang et al. 2024) and read by in2IN: `interclip.ckpt`, a checkpoint of Lightning.

Sizes are read off the weights, which do not show heads and dropout. It reads two people's features as they are, so the mean and
std that it holds, those published for InterHuman, only say what features these are.
"""

import re
from pathlib import Path

from torch import Tensor

from data_loaders.features import Statistics
from model.interclip import InterCLIP
from model.interclip_config import InterCLIPConfig
from model.model import made_for
from model.official.weights import first_match, load_renamed, read_training_checkpoint, torch_layer_name
from model.registry import interclip_file
from model.text_encoders import EncodesTexts
from protos.reading import FileError

PREFIX = "model."  # of every name in the file
UNSEEN = {"num_heads": 8, "text_heads": 8, "dropout": 0.1}  # of what was published
NOT_LOADED = (r"sequence_pos_encoder\.pe$",)  # sinusoids
NAMES = (  # ours -> the published one; the first match counts
    (r"text_encoder\.words\.", "token_embedding."),
    (r"text_encoder\.positions$", "positional_embedding"),
    (r"text_encoder\.norm\.", "text_ln."),
    (r"text_encoder\.output\.", "out."),
    (r"motion_encoder\.sequence\.tokens$", "motion_encoder.query_token"),
    (r"motion_encoder\.sequence\.projection\.", "motion_encoder.embed_motion."),
    (r"motion_encoder\.norm\.", "motion_encoder.out_ln."),
    (r"motion_encoder\.output\.", "motion_encoder.out."),
    (r"sphere\.radius$", "latent_scale"),
)
STACKS = {"text_encoder.": "textTransEncoder", "motion_encoder.sequence.": "motion_encoder.transformer"}


def interclip_name(name: str) -> str:
    """The published name of our parameter `name`."""
    for ours, theirs in STACKS.items():
        if name.startswith(f"{ours}layers."):
            return re.sub("^[^.]+", theirs, torch_layer_name(name.removeprefix(ours), "trans_enc"))
    return first_match(name, NAMES)


def config_from_state(state: dict[str, Tensor], where: str = "the checkpoint", **unseen: float) -> InterCLIPConfig:
    """Our configuration of a published state dict. unseen: what weights do not show, by default as published."""
    try:
        latent_dim, _ = state["motion_encoder.embed_motion.weight"].shape
        embedding, width = state["out.weight"].shape
        ff_size, _ = state["textTransEncoder.layers.0.linear1.weight"].shape
        layers = {name: len({key.split(".")[3 - (name == "text")] for key in state if key.startswith(f"{stack}.layers.")})
                  for name, stack in (("text", "textTransEncoder"), ("motion", "motion_encoder.transformer"))}  # fmt: skip
        return InterCLIPConfig(
            text_encoder="clip-l14-336", latent_dim=latent_dim, embedding=embedding, text_width=width, text_dim=width,
            ff_size=ff_size, num_layers=layers["motion"], text_layers=layers["text"], duplicates="published",
            **{**UNSEEN, **unseen},
        )  # fmt: skip
    except (KeyError, ValueError, IndexError) as error:
        raise FileError(f"{where} holds no weights of InterCLIP ({error})") from None


def load_interclip(path: Path, *, text_encoder: EncodesTexts | None = None) -> InterCLIP:
    """The published evaluator from its .ckpt, or from the folder of it, in eval mode. FileError says what is absent or wrong."""
    path = interclip_file(path) or path
    state = {name.removeprefix(PREFIX): value for name, value in read_training_checkpoint(path).items()}
    config = config_from_state(state, str(path))
    with made_for(state, str(path)):
        model = InterCLIP(config, Statistics.published("interhuman", config.features), text_encoder=text_encoder)
    load_renamed(model.networks, state, interclip_name, str(path), NOT_LOADED)
    return model.eval()
