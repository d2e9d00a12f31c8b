"""Names of the parameters of MoMask's masked and residual transformers, and of LaMP's masked one, which has them too."""

from model.official.weights import first_match, torch_layer_name

# Our name -> the published one. Order matters: first match.
NAMES = (
    (r"embedding\.", "token_emb."),
    (r"trunk\.input_projection\.", "input_process.poseEmbedding."),
    (r"trunk\.condition_projection\.", "cond_emb."),
    (r"trunk\.head\.", "output_process.dense."),
    (r"trunk\.head_norm\.", "output_process.LayerNorm."),
    (r"trunk\.output_projection\.", "output_process.poseFinal."),
    (r"quantizer_projection\.", "quant_emb."),
    (r"shared$", "embed_proj_shared_weight"),
    (r"first_embedding$", "token_embed_weight_"),
    (r"last_projection$", "output_proj_weight_"),
    (r"embeddings$", "token_embed_weight"),
    (r"projections$", "output_proj_weight"),
    (r"projection_bias$", "output_proj_bias"),
)
NOT_LOADED = (r"^position_enc\.pe$",)  # a table of sinusoids


def transformer_name(name: str) -> str:
    """The published name of a parameter of `MaskedTransformer` or `ResidualTransformer`."""
    if name.startswith("trunk.layers."):
        return torch_layer_name(name.removeprefix("trunk."), "trans_enc")
    return first_match(name, NAMES)
