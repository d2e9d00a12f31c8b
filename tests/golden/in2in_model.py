"""Golden cases of InterGen's and in2IN's networks: denoisers, guidance, blending, sampling loops, texts, keys, training draws."""

import re
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_loaders.features import Statistics
from diffusion.gaussian import Denoise, Diffusion
from diffusion.guidance import blend_share, held
from diffusion.interaction_losses import interaction_loss, pooled_squared_error
from diffusion.samplers import sample_steps
from model.capabilities import Guidance
from model.clip_tower import ClipTower, carried_tokenizer, rename_clip, tokenize_by
from model.dualmdm import DualMDM
from model.in2in import In2IN
from model.in2in_config import ONE_PERSON, TWO_PEOPLE, In2INConfig
from model.in2in_network import PeopleDenoiser, TextReader
from model.interclip import InterCLIP
from model.interclip_config import InterCLIPConfig
from model.layers import sinusoidal_table
from model.lsremgm_network import zero_where
from model.official.in2in import NETWORKS, NOT_LOADED, UNUSED, Kind, in2in_name
from model.official.interclip import interclip_name
from model.official.weights import rename
from model.text_encoders import Tower
from model.text_towers import filled
from protos.randomness import seed_everything
from tests.golden.in2in_losses import joints_of, weighted, weights_of
from tests.golden.references import load_weights
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours
from train.loop import clip_gradients, learning_rate
from train.options import TrainOptions

KINDS: dict[str, Kind] = {
    "intergen": "intergen", "in2in_interaction": "interaction", "interaction": "interaction", "in2in_individual": "individual",
    "individual": "individual", "dual_individual": "individual",
}  # fmt: skip
OUR_NETWORK = {
    "mode": "eval", "activation": "gelu_erf", "attention_extra_zero_key_value": True, "adaln_eps": 1e-06,
    "time_embedding": "pe[t] -> linear, silu, linear",
}  # fmt: skip
OUR_BLEND = {"horizon": 1000, "t_of": "first batch element"}
OUR_LOOP = {"eta": 0.0, "clip": False, "initial": "noise", "prediction": "x0", "final": "x0 of the last step"}
OUR_READER = {"activation": "gelu_erf", "post_norm": True, "mask": None, "final_layer_norm": True, "mode": "eval"}


def tensors(case: Case) -> dict[str, Tensor]:
    """Inputs, cut to the columns that the case names and multiplied as it says."""
    values = {name: torch.as_tensor(value) for name, value in case.inputs.items()}
    for name, (start, stop) in case.config.get("slices", {}).items():
        values[name] = values[name][..., start:stop]
    if "cond" in values:
        values["cond"] = values["cond"] * case.config.get("cond_multiplier", 1.0)
    return values


def config_of(net: dict[str, Any], kind: Kind) -> In2INConfig:
    require_ours(net, OUR_NETWORK)
    one = kind == "individual"
    return In2INConfig(
        mode="individual" if one else "interaction", individual_texts=kind == "interaction", latent_dim=net["latent"],
        ff_size=net["ff"], num_layers=net["layers"], num_heads=net["heads"], dropout=net["dropout"], max_positions=net["pe_rows"],
        features=ONE_PERSON if one else TWO_PEOPLE, text_dim=net["text"], text_heads=1, text_layers=1, text_ff_size=1,
    )  # fmt: skip


def denoiser_of(net: dict[str, Any], weights: dict[str, Tensor], kind: Kind) -> PeopleDenoiser:
    """The network with published weights, whose names begin behind those of the container, in eval mode."""
    config = config_of(net, kind)
    with torch.device("meta"):
        network = PeopleDenoiser(config, net["input"])
    prefix = f"decoder.{NETWORKS[kind]}."
    unused = (r"^blocks\.\d+\.ca_block\.",) if kind == "individual" else ()
    found = rename(weights, network.state_dict(), lambda name: in2in_name(f"denoiser.{name}", kind).removeprefix(prefix),
                   (*NOT_LOADED, *unused), "the case")  # fmt: skip
    network.load_state_dict(found, assign=True)
    network.positions = sinusoidal_table(config.max_positions, config.latent_dim)
    return network.eval()


def model_of(net: dict[str, Any], weights: dict[str, Tensor], kind: Kind) -> In2IN:
    """The model around it; its reader of texts is of no use."""
    config = config_of(net, kind)
    model = In2IN(config, Statistics.published("interhuman_hml3d" if kind == "individual" else "interhuman", config.features))
    model.networks["denoiser"] = denoiser_of(net, weights, kind)
    return model.eval()


def texts_of(cond: Tensor, net: dict[str, Any]) -> Tensor:
    """Texts by role (B, R, C) from those of all roles in a row (B, R * C)."""
    return cond.unflatten(-1, (-1, net["text"]))


def mask_of(values: dict[str, Tensor]) -> Tensor | None:
    """(B, T) from that of each person (B, T, 2)."""
    return values["mask"][..., 0].bool() if "mask" in values else None


@torch.no_grad()
def denoise(case: Case) -> dict[str, Any]:
    config, values = case.config, tensors(case)
    net, mode, x, t, mask = config["net"], config["net_mode"], values["x"], values["timesteps"], mask_of(values)
    network = denoiser_of(net, case.weights, KINDS[mode])
    if mode == "dual_individual":
        require_ours(config, {"person_b": "last_block_on_embedded_input"})
        (a, b), last = x.chunk(2, dim=-1), net["layers"] - 1
        texts = [texts_of(values["cond"][:, slice(*config["cond_layout"][f"person_{each}"])], net) for each in "ab"]
        return {"output": torch.cat([network(a, t, texts[0], mask), network(b, t, texts[1], mask, last)], dim=-1)}
    roles = 3 if mode == "interaction" else 1
    found = {"time_embedding": network.time_mlp(network.positions[t])}

    def note(number: int, _layer: Any, _given: Any, made: Tensor) -> None:
        found.update({f"block{number}_{person}": each for person, each in zip("ab", made.chunk(2))})

    for number, layer in enumerate(network.layers):
        layer.register_forward_hook(partial(note, number))
    return {"output": network(x, t, texts_of(values["cond"], net)[:, :roles], mask), **found}


def guidance_of(stated: dict[str, Any]) -> Guidance:
    if stated["kind"] == "single":
        require_ours(stated, {"unconditional": "zero_cond"})
        return Guidance(stated["s"], 0.0, 0.0)
    require_ours(stated, {"unused_blocks": "zero"})
    return Guidance(stated["w_c"], stated["w_I"], stated["w_i"])


def denoise_of(case: Case, values: dict[str, Tensor]) -> Denoise:
    """denoise(x, t) of a guided model or of a blend of two."""
    config, mask = case.config, mask_of(values)
    net = config["net"]
    if config["system"] != "dualmdm":
        model = model_of(net, case.weights, KINDS[config["net_mode"]])
        return model.guided(texts_of(values["cond"], net), mask, guidance_of(config["guidance"]))
    blend = config["blend"]
    require_ours(blend, OUR_BLEND)
    parts = {}
    for name in ("interaction", "individual"):
        prefix = config["prefixes"][name]
        parts[name] = model_of(net, {key.removeprefix(prefix): value for key, value in case.weights.items()
                                     if key.startswith(prefix)}, KINDS[name])  # fmt: skip
    layers = {"last_block_on_embedded_input": "last", "all_blocks": "all"}[config["person_b"]]
    dual = DualMDM.of(**parts, blend=blend["function"], blend_value=blend["value"], convert=False, person2_layers=layers)
    layout = {name: texts_of(values["cond"][:, slice(*columns)], net) for name, columns in config["cond_layout"].items()}
    apart = [layout["individual_person_a"], layout["individual_person_b"]]
    guidance = Guidance(interaction=config["s_interaction"], individual=config["s_individual"])
    return dual.blended(layout["interaction_net"], apart, mask, guidance)


@torch.no_grad()
def guided_denoise(case: Case) -> dict[str, Any]:
    values = tensors(case)
    return {"x0": denoise_of(case, values)(values["x"], values["timesteps"])}


def schedule_of(config: dict[str, Any]) -> Diffusion:
    require_ours(config, {"s": 0.008, "max_beta": 0.999})
    return Diffusion.create(config["schedule"], config.get("diffusion_steps") or config["steps"], sections=config.get("strategy"))


def schedule(case: Case) -> dict[str, Any]:
    diffusion = schedule_of(case.config)
    if "x0" in case.inputs:
        values = tensors(case)
        return {"x_t": diffusion.q_sample(values["x0"], values["t"], values["noise"])}
    return {name: getattr(diffusion, name) for name in case.expected}


def blend_weight(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"horizon": 1000})
    return {"w": blend_share(case.config["function"], case.config["value"], torch.as_tensor(case.inputs["t"]))}


@torch.no_grad()
def ddim_sample(case: Case) -> dict[str, Any]:
    require_ours(case.config, OUR_LOOP)
    values, config = tensors(case), case.config
    denoise = denoise_of(case, values)
    if "control" in config:
        columns = config["control"]["columns"]
        denoise = held(denoise, values["x_start"][:, : config["frames"]], columns)
    steps = list(sample_steps(denoise, values["noise"], schedule_of(config), sampler="ddim"))
    after = {f"sample_after_{number}": step.x for number, step in enumerate(steps, 1)}
    return {"x0_first": steps[0].x0, "final": steps[-1].x, **after}


def tokenise(case: Case) -> dict[str, Any]:
    config = case.config
    tower = filled(Tower(tokenize_by(carried_tokenizer(), config["vocabulary"], config["context"]), None), config["context"])
    tokens = np.array([tower.tokenize(text)[0] for text in case.inputs["texts"]])
    return {"tokens": tokens, "eot": tokens.argmax(-1)}


def reader_of(case: Case) -> TextReader:
    """The reader of texts with the case's weights."""
    adapter, names = case.config["adapter"], case.config["names"]
    require_ours(adapter, OUR_READER)
    config = In2INConfig(individual_texts=False, text_dim=adapter["width"], text_heads=adapter["heads"],
                         text_layers=adapter["layers"], text_ff_size=adapter["ff"])  # fmt: skip
    reader = TextReader(config)
    given = {key.replace(names["adapter"], "clipTransEncoder", 1).replace(names["norm"], "clip_ln", 1): value
             for key, value in case.weights.items() if key.startswith((names["adapter"], names["norm"]))}  # fmt: skip
    reader.load_state_dict(
        rename(given, reader.state_dict(), lambda name: in2in_name(f"text_reader.{name}", "intergen"), (), case.name))
    return reader.eval()


@torch.no_grad()
def text_condition(case: Case) -> dict[str, Any]:
    require_ours(case.config["tower"], {"activation": "x*sigmoid(1.702x)", "causal": True, "pre_norm": True, "projection": False})
    tower, tokens = case.config["tower"], torch.as_tensor(case.inputs["tokens"]).long()
    state = rename_clip({key.replace("clip_transformer.", "transformer.", 1): value for key, value in case.weights.items()})
    with torch.device("meta"):
        sizes = tower["width"], tower["heads"], tower["layers"]
        network = ClipTower(case.config["vocabulary"], case.config["context"], *sizes, pooled=None)
    network.load_state_dict(state, assign=True)
    at_end, states = network.eval()(tokens)
    return {"clip_out_at_eot": at_end, "cond": reader_of(case)(states, tokens.argmax(-1))}


@torch.no_grad()
def text_adapter(case: Case) -> dict[str, Any]:
    values, reader = tensors(case), reader_of(case)
    states, end = values["clip_out"] * case.config["input_multiplier"], values["eot"].long()
    return {"at_eot": reader(states, end), "first_token": reader(states, torch.zeros_like(end))}


def condition_dropout(case: Case) -> dict[str, Any]:
    """The draws of the original, applied by ours."""
    config, column = case.config, torch.as_tensor(case.inputs["cond_column0"])
    torch.manual_seed(config["seed"])
    drop = torch.bernoulli(torch.full((config["batch"],), config["probability"])).bool()
    masked = zero_where(drop, column.reshape(len(column), -1))
    return {"keep": (~drop).reshape(case.expected["keep"].shape).float(), "masked_column0": masked.reshape(column.shape)}


def sampled_steps(case: Case) -> dict[str, Any]:
    """The draws of the original; every step counts alike, as with ours."""
    config = case.config
    seed_everything(config["seed"])
    t = np.random.choice(config["steps"], size=(config["batch"],), p=np.full(config["steps"], 1 / config["steps"]))
    return {"t": t, "weights": np.ones(config["batch"], np.float32)}


def rate_factor(case: Case) -> dict[str, Any]:
    """One step an epoch."""
    config = case.config
    options = TrainOptions(save_dir="unused", lr=1.0, schedule="intergen", num_steps=config["epochs_total"],
                           warmup_steps=config["warmup_epochs"])  # fmt: skip
    return {"factors": np.array([learning_rate(int(epoch), options) for epoch in case.inputs["epochs"]])}


def parameter_shapes(case: Case) -> dict[str, Any]:
    """Published names and shapes of our full-size networks; sinusoids, tower and unused layers are no parameters of ours."""
    config, expected = case.config, case.expected["shapes"]
    if config["system"] == "interclip":
        return judge_shapes(config, expected)
    kinds = {"dualmdm": ("interaction", "individual")}.get(config["system"]) or (KINDS[config["system"]],)
    shapes = {}
    for kind in kinds:
        one = kind == "individual"
        ours = In2INConfig(
            mode="individual" if one else "interaction", individual_texts=kind == "interaction", latent_dim=config["latent"],
            ff_size=config["ff"], num_heads=config["heads"], num_layers=config["layers"], text_dim=config["text"],
            features=ONE_PERSON if one else TWO_PEOPLE,
        )  # fmt: skip
        with torch.device("meta"):
            networks = In2IN(ours).networks
        shapes |= {in2in_name(name, kind): list(value.shape) for name, value in networks.state_dict().items()}
    left_out = [key for key in expected if is_left_out(key)]
    return {"shapes": shapes | {key: expected[key] for key in left_out}}


def is_left_out(key: str) -> bool:
    return any(re.search(pattern, key) for pattern in (*NOT_LOADED, UNUSED))


def judge_shapes(config: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Those of InterCLIP."""
    ours = InterCLIPConfig(
        text_encoder="clip-l14-336", latent_dim=config["latent"], ff_size=config["ff"], num_heads=config["heads"],
        num_layers=config["layers"], text_width=config["text"], text_dim=config["text"],
    )  # fmt: skip
    with torch.device("meta"):
        networks = InterCLIP(ours).networks
    shapes = {interclip_name(name): list(value.shape) for name, value in networks.state_dict().items()}
    return {"shapes": shapes | {key: shape for key, shape in expected.items() if key.endswith(".pe")}}


def training_terms(case: Case, model: In2IN) -> dict[str, Tensor]:
    """Terms of a training step under the published names, on given noise, steps and texts; padding as published."""
    require_ours(case.config, {"schedule": "cosine", "prediction": "x0", "condition_dropout": 0.0, "padding_mask": True})
    values = tensors(case)
    mean, std = values["mean"].float(), values["std"].float()
    people = values["raw_motion"].unflatten(-1, (-1, case.config["net"]["input"]))  # (B, T, P, 262)
    x0, t, mask = ((people - mean) / std).flatten(2), values["t"], mask_of(values)
    x = model.diffusion.q_sample(x0, t, values["noise"])
    output = model.networks["denoiser"](x, t, texts_of(values["cond"], case.config["net"]), mask)
    if people.shape[2] == 1:
        simple = pooled_squared_error(output, x0, mask)
        return {"simple": simple, "A": simple, "total": simple}
    weights = weights_of(case.config)
    found = weighted(interaction_loss(output, x0, partial(joints_of, mean=mean, std=std), t, mask, weights), weights)
    return {**found, "total": found["loss"]}


@torch.no_grad()
def training_loss(case: Case) -> dict[str, Any]:
    return training_terms(case, model_of(case.config["net"], case.weights, KINDS[case.config["net_mode"]]))


def optimiser_step(case: Case) -> dict[str, Any]:
    """A step on the whole loss with clipped gradients, dropout off."""
    config = case.config
    require_ours(config, {"dropout_active": False, "loss": "total", "parameters": "all of the weights prefix"})
    kind, settings = KINDS[config["net_mode"]], config["optimiser"]
    model = model_of(config["net"], case.weights, kind)
    network = model.networks["denoiser"].requires_grad_()
    optimiser = torch.optim.AdamW(network.parameters(), settings["lr"], tuple(settings["betas"]), settings["eps"],
                                  settings["weight_decay"])  # fmt: skip
    total = training_terms(case, model)["total"]
    total.backward()
    norm = clip_gradients(network, config["clip_grad_norm"])
    names = {in2in_name(f"denoiser.{name}", kind): parameter for name, parameter in network.named_parameters()}
    gradients = {f"grad:{name}": parameter.grad.clone() for name, parameter in names.items()}
    optimiser.step()
    after = {f"after:{name}": parameter.detach() for name, parameter in names.items()}
    return {"total": total, "grad_norm_before_clip": norm, **gradients, **after}


def weight_recipe(case: Case) -> dict[str, Any]:
    """What the runner draws by the recipe, beside the stored tensors."""
    made = load_weights(case.folder, f"weight_recipe.json:{case.config['set']}")
    return {"state_dict": {key: made[key] for key in case.expected["state_dict"]}}


HANDLERS = {
    "denoise": denoise,
    "guided_denoise": guided_denoise,
    "dual_denoise": guided_denoise,
    "schedule": schedule,
    "respace": schedule,
    "q_sample": schedule,
    "blend_weight": blend_weight,
    "ddim_sample": ddim_sample,
    "clip_tokenise": tokenise,
    "text_condition": text_condition,
    "text_adapter": text_adapter,
    "condition_dropout": condition_dropout,
    "sample_timesteps": sampled_steps,
    "lr_factor": rate_factor,
    "state_dict_shapes": parameter_shapes,
    "weight_recipe": weight_recipe,
    "training_loss": training_loss,
    "optimiser_step": optimiser_step,
}
