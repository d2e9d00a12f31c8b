"""Checkpoint folders, ours and published ones: complete, checked, and enough to sample."""

import json
import pickle
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.features import Features, Statistics
from model.autoencoder import MotionAutoencoder
from model.autoencoder_config import AutoencoderConfig
from model.capabilities import Decoding, Request
from model.checkpoints import from_pretrained, load_part, read_config, save_pretrained
from model.lsremgm import Latent, LSReMGM
from model.lsremgm_config import LatentConfig, LSReMGMConfig
from model.lsremgm_network import MotionDenoiser
from model.official.mdm import config_from_args, mdm_name, read_args
from model.text_encoders import TextFeatures
from model.text_towers import load_text_encoder
from protos.outputs import OutputError, files_in, read_manifest
from protos.reading import FileError
from tests.published_weights import ARGS, published

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"

SMALL = dict(latent_dim=32, ff_size=48, num_layers=2, diffusion_steps=5, arch="trans_enc", text_encoder="clip-b32", text_dim=512)
WORDS = {**SMALL, **dict(arch="trans_dec", text_encoder="minilm", text_dim=384, text_memory="tokens", mask_frames=True)}
EARLIER = Path(__file__).with_name("earlier")


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm", disk_cache=False)


def statistics(heading="published", width=263):
    generator = np.random.default_rng(0)
    return Statistics(generator.normal(size=width).astype(np.float32),
                      generator.uniform(0.01, 0.1, width).astype(np.float32),
                      Features("humanml", 20.0, heading))


@pytest.fixture
def saved(tmp_path, minilm):
    torch.manual_seed(0)
    config = LSReMGMConfig(**WORDS, features=Features(heading="continuous"))
    nets = LSReMGM(config, statistics("continuous"), text_encoder=minilm).eval()
    save_pretrained(tmp_path / "model", nets, "# A card")
    return tmp_path / "model", nets


def same_sample(a, b) -> float:
    made = [nets.generate([Request("a person walks", 16, 3)], Decoding(sampler="ddim"))[0] for nets in (a, b)]
    return (made[0] - made[1]).abs().max().item()


def test_a_checkpoint_folder_alone_is_enough_to_sample(saved, minilm):
    folder, nets = saved
    again = from_pretrained(folder, text_encoder=minilm)
    assert again.config == nets.config and not again.networks.training
    assert same_sample(nets, again) == 0
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "model.safetensors", "stats.npz", "README.md", "manifest.json"}
    assert again.statistics.features == Features("humanml", 20.0, "continuous")
    assert from_pretrained(folder / "model.safetensors").config == nets.config


def test_half_precision_takes_half_the_bytes_and_reads_back_as_float32(saved, minilm, tmp_path):
    folder, nets = saved
    save_pretrained(tmp_path / "half", nets, half=True)
    sizes = [(f / "model.safetensors").stat().st_size for f in (tmp_path / "half", folder)]
    assert sizes[0] < 0.55 * sizes[1]
    again = from_pretrained(tmp_path / "half", text_encoder=minilm)
    weights = nets.networks.state_dict()
    for name, value in again.networks.state_dict().items():
        torch.testing.assert_close(value, weights[name], atol=1e-3, rtol=0)  # and of one type


@pytest.fixture
def latent(tmp_path, minilm):
    sizes = AutoencoderConfig(latent_channels=16, width=32, num_blocks=1, fine_width=16, num_fine_blocks=1)
    autoencoder = MotionAutoencoder(sizes, statistics())
    autoencoder.network.latent_std.fill_(3.0)
    nets = Latent(LatentConfig(**WORDS, sampling_steps=None), statistics(), {"autoencoder": autoencoder}, text_encoder=minilm)
    save_pretrained(tmp_path / "latent", nets)
    return tmp_path / "latent", nets


def test_a_part_and_what_was_measured_of_it_travel_with_the_checkpoint(latent, minilm):
    folder, nets = latent
    again = from_pretrained(folder, text_encoder=minilm)
    assert again.autoencoder.config == nets.autoencoder.config and (again.autoencoder.network.latent_std == 3).all()
    assert same_sample(nets, again) == 0
    alone = load_part(folder / "parts" / "autoencoder", "autoencoder", "motion_autoencoder")
    lent = load_part(folder, "autoencoder", "motion_autoencoder")
    for name, value in again.autoencoder.networks.state_dict().items():
        assert torch.equal(value, alone.networks.state_dict()[name]) and torch.equal(value, lent.networks.state_dict()[name])
    with pytest.raises(FileError, match="nor of one that stands on such a model"):
        load_part(CHECKPOINTS / "tmr", "autoencoder", "motion_autoencoder")


def test_a_part_other_than_that_of_the_training_is_refused(latent):
    folder, nets = latent
    nets.autoencoder.network.latent_std.fill_(4.0)
    save_pretrained(folder / "parts" / "autoencoder", nets.autoencoder, overwrite=True)
    with pytest.raises(FileError, match="not what the model was trained on"):
        from_pretrained(folder)
    shutil.rmtree(folder / "parts")
    with pytest.raises(FileError, match="autoencoder is absent"):
        from_pretrained(folder)


def test_checkpoints_of_an_earlier_version_are_what_they_were(minilm):
    expected = json.loads((EARLIER / "expected.json").read_text())
    models = {name: from_pretrained(EARLIER / name, text_encoder=None if name == "evaluator" else minilm) for name in expected}
    found = {}
    for name in ("lsremgm", "latent"):
        made = models[name].generate([Request("a person walks", 12, 3)], Decoding(sampler="ddim"))[0]
        found[name] = made[[0, 11], :6].tolist()
    assert read_config(EARLIER / "latent")[0] == "latent" and models["latent"].config.smoothing == 0.5
    assert models["lsremgm"].config.sampling_steps == 3 and models["lsremgm"].features.heading == "continuous"
    found["tmr"] = models["tmr"].encode_text(["a person walks"])[0].tolist()
    mean = models["evaluator"].statistics.mean
    found["evaluator"] = models["evaluator"].encode_motion([np.outer(np.ones(20), mean).astype(np.float32)])[0].tolist()
    found["motion_autoencoder"] = models["motion_autoencoder"].network.decode(torch.ones(1, 2, 4))[0, 0, :6].tolist()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, err_msg=name)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    nets = LSReMGM(LSReMGMConfig(**SMALL), statistics())
    nets.denoiser.output_projection.bias.data[0] = 1e6  # beyond float16
    with pytest.raises(FileError, match="not finite"):
        save_pretrained(tmp_path / "bad", nets, half=True)
    assert not list(tmp_path.iterdir())


def test_saving_replaces_a_checkpoint_when_asked_and_nothing_else_ever(saved, tmp_path):
    folder, nets = saved
    with pytest.raises(OutputError, match="add --overwrite"):
        save_pretrained(folder, nets)
    save_pretrained(folder, nets, "# Another card", overwrite=True)
    assert (folder / "README.md").read_text() == "# Another card\n"
    (folder / "manifest.json").unlink()  # as an earlier version wrote it
    save_pretrained(folder, nets, "# A third card", overwrite=True)
    assert (folder / "README.md").read_text() == "# A third card\n"
    for name in ("notes.txt", "src/main.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("keep me")
        with pytest.raises(OutputError, match="did not write"):
            save_pretrained(folder, nets, overwrite=True)
        assert (folder / name).read_text() == "keep me" and (folder / "README.md").read_text() == "# A third card\n"
        (folder / name).unlink()


def test_damaged_and_foreign_folders_are_named(saved, tmp_path):
    folder, _ = saved
    with pytest.raises(FileError, match="no checkpoint at"):
        from_pretrained(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"neither config\.json nor args\.json"):
        from_pretrained(tmp_path / "empty")
    config = json.loads((folder / "config.json").read_text())
    for change, message in (({"system": "other"}, "names system 'other'"), ({"colour": 1}, "colour"),
                            ({"latent_dim": 64}, r"has shape .*, expected"),
                            ({"features": {"skeleton": "kit"}}, "skeleton")):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=message):
            from_pretrained(folder)
    (folder / "config.json").write_text("{ not json")
    with pytest.raises(FileError, match="JSON"):
        read_config(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(FileError, match="damaged"):
        from_pretrained(folder)
    (folder / "stats.npz").unlink()
    with pytest.raises(FileError, match="incomplete"):
        from_pretrained(folder)


VARIANTS = {
    "encoder": {},
    "decoder": {"arch": "trans_dec"},
    "decoder with token, old": {"arch": "trans_dec", "emb_trans_dec": True},
    "gru": {"arch": "gru"},
    "words": {"arch": "trans_dec", "text_encoder_type": "bert", "mask_frames": True},
    "prefix and target": {"arch": "trans_dec", "text_encoder_type": "bert", "context_len": 20, "pred_len": 40,
                          "lambda_target_loc": 0.5, "multi_encoder_type": "split"},
    "action": {"dataset": "humanact12", "cond_mask_prob": 0},
    "unconstrained": {"dataset": "humanact12", "unconstrained": True},
}


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_published_folders_load_into_the_variant_their_args_describe(name, average, tmp_path):
    network = published(tmp_path / "published", {**ARGS, **VARIANTS[name], "use_ema": average}, average)
    nets = from_pretrained(tmp_path / "published")
    assert nets.config == network.config
    for ours, loaded in zip(network.parameters(), nets.denoiser.parameters(), strict=True):
        assert torch.equal(ours, loaded)


def test_without_use_ema_the_plain_weights_are_taken(tmp_path):
    published(tmp_path / "p", {**ARGS, "use_ema": False}, average=True)
    assert all((p == 0).all() for p in from_pretrained(tmp_path / "p").denoiser.parameters())


def test_published_unmasked_weights_are_sampled_at_196_frames_with_clip_cut_to_20_words(tmp_path):
    published(tmp_path / "p", ARGS)
    config = from_pretrained(tmp_path / "p").config
    assert (config.mask_frames, config.max_frames, config.text_encoder, config.text_max_tokens) == \
        (False, 196, "clip-b32", 22)
    assert config.features.heading == "published"


def test_published_humanml_statistics_come_with_the_code_and_kit_ones_do_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no dataset folder here
    published(tmp_path / "p", ARGS)
    nets = from_pretrained(tmp_path / "p")
    assert nets.mean.shape == (263,) and 0.9 < nets.mean[3] < 1.0  # pelvis height in metres
    np.save(tmp_path / "Mean.npy", np.full(263, 2.0))
    np.save(tmp_path / "Std.npy", np.full(263, 3.0))
    assert (from_pretrained(tmp_path / "p", dataset_folder=tmp_path).std == 3).all()
    published(tmp_path / "kit", {**ARGS, "dataset": "kit"})
    with pytest.raises(FileError, match=r"Mean\.npy and Std\.npy.*KIT-ML"):
        from_pretrained(tmp_path / "kit")


def test_the_newest_published_file_is_taken_unless_one_is_named(tmp_path):
    published(tmp_path / "p", ARGS)
    state = torch.load(tmp_path / "p" / "model000100000.pt", weights_only=True)
    state["output_process.poseFinal.bias"] = torch.full((263,), 7.0)
    torch.save(state, tmp_path / "p" / "model000200000.pt")
    (tmp_path / "p" / "opt000300000.pt").write_bytes(b"")
    assert (from_pretrained(tmp_path / "p").denoiser.output_projection.bias == 7).all()
    older = from_pretrained(tmp_path / "p" / "model000100000.pt")
    assert not (older.denoiser.output_projection.bias == 7).any()


def test_published_weights_must_fit_exactly(tmp_path):
    published(tmp_path / "p", ARGS)
    file = tmp_path / "p" / "model000100000.pt"
    state = torch.load(file, weights_only=True)
    torch.save({k: v for k, v in state.items() if k != "embed_text.bias"} | {"extra.weight": torch.zeros(1)}, file)
    with pytest.raises(FileError, match=r"1 missing \(embed_text.bias\); 1 unexpected \(extra.weight\)"):
        from_pretrained(tmp_path / "p")
    torch.save(state | {"clip_model.token_embedding.weight": torch.zeros(2)}, file)
    from_pretrained(tmp_path / "p")
    (tmp_path / "p" / "args.json").write_text(json.dumps({**ARGS, "dataset": "kit"}))
    for name in ("Mean.npy", "Std.npy"):
        np.save(tmp_path / name, np.ones(251))
    with pytest.raises(FileError, match=r"shape \(32, 263\), expected \(32, 251\)"):
        from_pretrained(tmp_path / "p", dataset_folder=tmp_path)


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_published_file_is_not_run(tmp_path):
    published(tmp_path / "p", ARGS)
    file = tmp_path / "p" / "model000100000.pt"
    torch.save({"model": Harmful()}, file)
    with pytest.raises(FileError, match="more than tensors and plain values"):
        from_pretrained(tmp_path / "p")
    file.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(FileError, match="more than tensors and plain values"):
        from_pretrained(tmp_path / "p")


def test_args_of_older_code():
    assert read_args({"cond_mode": "no_cond"})["unconstrained"]
    assert read_args({})["diffusion_steps"] == 1000 and not read_args({})["mask_frames"]
    assert read_args({"context_len": 20, "pred_len": 0})["pred_len"] == 20
    assert read_args({"lambda_target_loc": 1.0})["multi_target_cond"]
    token = {"arch": "trans_dec", "emb_trans_dec": True}
    assert config_from_args(token).decoder_token == "time+text"
    token["text_encoder_type"] = "clip"
    assert config_from_args({**token, "emb_before_mask": False}).decoder_token == "time+text"
    assert config_from_args(token).decoder_token == "time"
    with pytest.raises(FileError, match="amass"):
        read_args({"dataset": "amass"})


def test_names_are_one_to_one():
    for change in VARIANTS.values():
        config = config_from_args({**ARGS, **change})
        names = [partial(mdm_name, config=config)(name) for name in MotionDenoiser(config, 263).state_dict()]
        assert len(set(names)) == len(names)


class Original(torch.nn.Module):
    """The published network in torch's own layers, time-major, full size: what the weights mean, said again."""

    def __init__(self, decoder: bool):
        super().__init__()
        d = 512
        sizes = dict(d_model=d, nhead=4, dim_feedforward=1024, dropout=0.1, activation="gelu")
        self.input_process = torch.nn.ModuleDict({"poseEmbedding": torch.nn.Linear(263, d)})
        self.output_process = torch.nn.ModuleDict({"poseFinal": torch.nn.Linear(d, 263)})
        time = torch.nn.Sequential(torch.nn.Linear(d, d), torch.nn.SiLU(), torch.nn.Linear(d, d))
        self.embed_timestep = torch.nn.ModuleDict({"time_embed": time})
        self.embed_text = torch.nn.Linear(768 if decoder else 512, d)
        self.decoder = decoder
        if decoder:
            layer = torch.nn.TransformerDecoderLayer(**sizes)
            self.seqTransDecoder = torch.nn.TransformerDecoder(layer, 8)
        else:
            layer = torch.nn.TransformerEncoderLayer(**sizes)
            self.seqTransEncoder = torch.nn.TransformerEncoder(layer, 8, enable_nested_tensor=False)
        position = torch.arange(1000)[:, None] * torch.exp(-torch.arange(0, d, 2) * np.log(10000.0) / d)
        self.table = torch.stack([position.sin(), position.cos()], -1).flatten(1)

    def forward(self, x, t, words, word_padding=None, padding=None):
        """x (T, B, 263), words (L, B, C)."""
        time = self.embed_timestep["time_embed"](self.table[t])[None]  # (1, B, d)
        memory = self.embed_text(words) + time
        frames = self.input_process["poseEmbedding"](x)
        if self.decoder:
            y = self.seqTransDecoder(frames + self.table[: len(x), None], memory, tgt_key_padding_mask=padding,
                                     memory_key_padding_mask=word_padding)
        else:
            y = self.seqTransEncoder(torch.cat([memory, frames]) + self.table[: len(x) + 1, None])[1:]
        return self.output_process["poseFinal"](y)


@pytest.mark.parametrize("decoder", [False, True])
def test_full_size_weights_give_the_original_answer_at_full_length(decoder, tmp_path):
    torch.manual_seed(2)
    original = Original(decoder).eval()
    kind = {"arch": "trans_dec", "text_encoder_type": "bert", "mask_frames": True} if decoder else {}
    (tmp_path / "args.json").write_text(json.dumps({**ARGS, "layers": 8, "latent_dim": 512, **kind}))
    torch.save(original.state_dict(), tmp_path / "model.pt")
    nets = from_pretrained(tmp_path)
    assert round(sum(p.numel() for p in nets.denoiser.parameters()) / 1e6, 2) == (26.42 if decoder else 17.88)
    x, t = torch.randn(2, 196, 263), torch.tensor([0, 40])
    words = torch.randn(2, 7, 768) if decoder else torch.randn(2, 1, 512)
    real_words = torch.arange(7) < torch.tensor([[7], [4]])
    mask = torch.arange(196) < torch.tensor([[196], [120]])
    text = TextFeatures(words.mean(1), words, real_words)
    with torch.no_grad():
        ours = nets.denoiser(x, t, text, mask)
        more = dict(word_padding=~real_words, padding=~mask) if decoder else {}
        theirs = original(x.transpose(0, 1), t, words.transpose(0, 1), **more).transpose(0, 1)
    counts = mask if decoder else torch.ones_like(mask)
    assert torch.allclose(ours[counts], theirs[counts], atol=1e-5)


@pytest.mark.parametrize("name", ["starter", "tmr", "evaluators/bandai_cmu"])
def test_the_manifests_of_the_weights_that_come_with_the_code_list_what_lies_there(name):
    folder = CHECKPOINTS / name
    listed = read_manifest(folder / "manifest.json")
    assert listed.what == "checkpoint" and set(listed.files) == files_in(folder) - {"manifest.json"}
    asked = subprocess.run(["git", "ls-files", "."], cwd=folder, capture_output=True, text=True, check=False)
    if asked.returncode == 0 and asked.stdout:  # in a checkout
        assert set(asked.stdout.split()) == {*listed.files, "manifest.json"}


@pytest.fixture
def run_folder(saved, tmp_path):
    """The folder of a training run of two steps, the newer one with zeros in place of weights that matter."""
    _, nets = saved
    run = tmp_path / "run"
    zeros = nets.copied()
    for parameter in zeros.networks.parameters():
        parameter.zero_()
    for step, model in ((5, nets), (10, zeros)):
        save_pretrained(run / f"step_{step:09d}", model)
    (run / "options.json").write_text("{}")
    (run / "step_notes").mkdir()
    return run


def test_a_training_runs_folder_stands_for_its_best_checkpoint_else_its_newest(run_folder, minilm, caplog):
    def weight():
        return from_pretrained(run_folder, text_encoder=minilm).denoiser.output_projection.weight.abs().sum()

    with caplog.at_level("INFO"):
        assert weight() == 0  # the newest
    assert f"{run_folder} is the folder of a training run: taking its step_000000010" in caplog.text
    shutil.copytree(run_folder / "step_000000005", run_folder / "best")
    assert weight() > 0 and read_config(run_folder)[0] == "lsremgm"
    for folder in run_folder.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    with pytest.raises(FileError, match=r"is no checkpoint: it holds neither .* nor the steps of a training run"):
        from_pretrained(run_folder)


def test_a_folder_around_a_checkpoint_as_archives_make_it_stands_for_it(saved, tmp_path):
    folder, _ = saved
    (tmp_path / "official").mkdir()
    shutil.move(folder, tmp_path / "official" / "inner")
    (tmp_path / "official" / "weights.zip").write_bytes(b"")
    assert read_config(tmp_path / "official")[0] == "lsremgm"


def test_what_a_folder_holds_is_told_without_torch(tmp_path):
    (tmp_path / "args.json").write_text("{}")
    code = ("import sys; from pathlib import Path; from model.registry import published_at; "
            f"print(published_at(Path({str(tmp_path)!r}))[0].name, 'torch' in sys.modules)")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.stdout.split() == ["lsremgm", "False"], told.stderr
