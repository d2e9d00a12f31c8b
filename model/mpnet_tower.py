"""The tower of all-mpnet-base-v2, whose relative positions are found in no other."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from model.text_encoders import Tower
from model.text_towers import TOWERS, cut, read_tokenizer, read_tower_weights
from protos.reading import FileError, first_line, read_json


def load_mpnet(folder: Path, max_tokens: int) -> Tower:
    """Tower of a Hugging Face folder of it, through transformers. FileError names what is damaged or absent."""
    from transformers.models.mpnet.modeling_mpnet import MPNetModel

    read_json(folder / "config.json", dict[str, Any])
    state = read_tower_weights(folder)
    if bad := [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise FileError(f"{folder}: tensor {bad[0]} holds NaN or infinite values: damaged weights")
    try:
        network, loading = MPNetModel.from_pretrained(
            folder, local_files_only=True, add_pooling_layer=False, output_loading_info=True)  # fmt: skip
    except Exception as error:  # transformers raises many kinds for damaged files
        raise FileError(f"{folder}: cannot be read as {TOWERS['mpnet'].repository} ({first_line(error)[:160]})") from None
    if loading["missing_keys"]:
        raise FileError(f"{folder}: the weights lack {min(loading['missing_keys'])}: incomplete, or of another model")
    network.eval().requires_grad_(False)
    tokenizer = read_tokenizer(folder, network.config.vocab_size)

    def run(ids: Tensor) -> tuple[Tensor, Tensor]:
        tokens = network(ids).last_hidden_state  # (B, L, C)
        return nn.functional.normalize(tokens.mean(1), dim=-1), tokens

    return Tower(lambda text: cut(tokenizer.encode(text).ids, max_tokens), run)
