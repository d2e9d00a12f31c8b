"""Long motions: windows that pass over into each other, pieces and tokens that go on, timelines, parts laid over."""

import time
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.motion_checks import bone_vectors
from data_loaders.skeleton import load_skeleton
from diffusion.windows import Window, decoded_pieces, equal_parts, in_tokens, laid_out, windowed, windows_over
from model import lsremgm_sampling
from model.autoencoder import MotionAutoencoder
from model.autoencoder_config import AutoencoderConfig
from model.capabilities import Cleanup, Composes, Decoding, Passage, Request
from model.checkpoints import from_pretrained, read_config, save_pretrained
from model.in2in import In2IN
from model.lsremgm import Latent, LSReMGM
from model.lsremgm_config import LatentConfig, LSReMGMConfig
from model.registry import able
from model.text_towers import load_text_encoder
from protos.randomness import derive_seed
from protos.reading import FileError
from sample.compose import ComposeOptions, main, run
from sample.generation import PromptError
from sample.long_motion import composed, in_world, passages_in_world
from sample.timeline import Said, Timeline, arranged, parts_in, read_timeline, unsaid_sides
from tests.acted_motions import walking
from tests.synthetic import POOL_STATISTICS, raise_hand, walk
from tests.tiny_pgr2m import tiny_base, tiny_refiner
from tests.tiny_tokens import tiny_residual, tiny_tokenizer, tiny_transformer
from visualize.cleanup import at_least, cleaned_pieces, in_stretches
from visualize.joining import going_on, turned_about
from visualize.laid_over import Laid, Reel, laid_over

HUMANML = load_skeleton("humanml")
SMALL = dict(latent_dim=16, ff_size=16, num_layers=1, num_heads=2, diffusion_steps=4, dropout=0.0, arch="trans_dec",
             text_encoder="minilm", text_dim=384, features=POOL_STATISTICS.features)  # fmt: skip
WALK = Passage("a person walks", 40)


def lsremgm_of(**changes) -> LSReMGM:
    torch.manual_seed(0)
    return LSReMGM(LSReMGMConfig(**{**SMALL, "mask_frames": True, "max_frames": 48, **changes}), POOL_STATISTICS).eval()


def latent_of(**changes) -> Latent:
    torch.manual_seed(0)
    config = AutoencoderConfig(width=8, latent_channels=4, num_blocks=1, fine_width=8, num_fine_blocks=1,
                               features=POOL_STATISTICS.features)  # fmt: skip
    autoencoder = MotionAutoencoder(config, POOL_STATISTICS)
    for parameter in autoencoder.networks.parameters():  # blocks begin as if they were not there
        torch.nn.init.normal_(parameter, std=0.2)
    settings = {**SMALL, "max_frames": 48, "sampler": "dpmpp", "sampling_steps": 3, **changes}
    return Latent(LatentConfig(**settings), POOL_STATISTICS, {"autoencoder": autoencoder.eval()}).eval()


MODELS = {
    "frames": lsremgm_of, "frames, always as many": lambda: lsremgm_of(mask_frames=False), "latents": latent_of,
    "smoothed latents": lambda: latent_of(smoothing=1.5), "prefix": lambda: lsremgm_of(context_len=4, pred_len=16),
    "tokens": lambda: tiny_transformer(), "residual tokens": lambda: tiny_residual(), "poses": lambda: tiny_base(),
    "refined poses": lambda: tiny_refiner(),
}  # fmt: skip


def long(model, *passages: Passage, seed: int = 3, **settings) -> torch.Tensor:
    return torch.cat(list(model.compose(passages, seed, Decoding(**settings))))


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


def test_models_of_text_and_one_person_compose(model):
    assert isinstance(model, Composes)
    assert {"lsremgm", "latent", "t2m_transformer", "residual_transformer", "pg_base", "pg_refine"} <= set(able(Composes))
    assert not issubclass(In2IN, Composes)


def test_one_passage_that_a_model_makes_as_a_whole_is_the_plain_clip(model):
    for frames in (40, 37):
        plain = model.generate([Request(WALK.text, frames, 3)])[0]
        torch.testing.assert_close(long(model, Passage(WALK.text, frames)), plain.cpu(), atol=1e-5, rtol=1e-5)


def test_every_frame_is_made_once_and_in_order(model):
    texts = {"a person walks": 30, "a person bows": 41, "a person runs": 130, "someone waves": 62}
    passages = [Passage(text, frames) for text, frames in texts.items()]
    made = long(model, *passages)
    assert len(made) == 263 and made.isfinite().all()
    # What came before the last text does not know of it, but for the second in which the two pass over into each other
    other = long(model, *passages[:-1], Passage("a person kicks", 62))
    if getattr(model.config, "context_len", 1):
        assert torch.equal(made[:160], other[:160]) and not torch.equal(made[-20:], other[-20:])


def test_a_seed_is_one_motion_at_any_batch_size(model):
    passages = [Passage("a person walks", 30), Passage("a person bows", 41), Passage("a person runs", 90)]
    made = long(model, *passages)
    torch.testing.assert_close(long(model, *passages, batch_size=1), made, atol=1e-4, rtol=1e-4)
    assert (long(model, *passages, seed=4) - made).abs().max() > 1e-3


def test_what_is_held_does_not_grow_with_the_length(monkeypatch):
    monkeypatch.setattr(lsremgm_sampling, "BLOCK", 3)
    model, asked = latent_of(), []
    model.denoiser.register_forward_pre_hook(lambda network, given: asked.append(given[0].shape))
    for count in (6, 30):
        pieces = [len(piece) for piece in model.compose([WALK] * count, 1)]
        assert sum(pieces) == 40 * count and max(pieces) <= 4 * 3 * 12
        assert len(pieces) >= count / 3
    assert max(shape[0] for shape in asked) <= 2 * 3  # windows, with and without their text


@pytest.mark.parametrize("make", [lsremgm_of, lambda: lsremgm_of(mask_frames=False), latent_of])
def test_blocks_go_on_from_each_other(make, monkeypatch):
    """What two blocks share is made by the first, and the second begins with it: no frame is made twice or left out."""
    model = make()
    whole = long(model, *[WALK] * 4)
    monkeypatch.setattr(lsremgm_sampling, "BLOCK", 2)
    parts = long(model, *[WALK] * 4)
    assert parts.shape == whole.shape and parts.isfinite().all()
    assert not torch.equal(parts, whole)
    torch.testing.assert_close(parts[:20], whole[:20], atol=0.5, rtol=0.5)


def test_blocks_that_share_nothing_follow_each_other(monkeypatch):
    monkeypatch.setattr(lsremgm_sampling, "BLOCK", 1)
    assert len(long(lsremgm_of(), WALK, Passage("a person bows", 1), WALK)) == 81


def test_only_prefix_models_and_diffusions_take_what_they_know():
    with pytest.raises(ValueError, match="decodes tokens"):
        long(tiny_transformer(), WALK, sampler="ddim")
    with pytest.raises(ValueError, match="actions"):
        long(lsremgm_of(condition="action", num_actions=3), WALK)


# ------------------------------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize("lengths, longest, overlap", [
    ([49], 49, 5), ([20, 30, 200, 3, 40], 49, 5), ([1, 1, 1], 10, 4), ([50], 49, 6),
])  # fmt: skip
def test_windows_cover_every_token_once_or_pass_over(lengths, longest, overlap):
    windows = windows_over(lengths, longest, overlap)
    assert windows[0].start == 0 and windows[-1].stop == sum(lengths)
    assert all(0 < window.stop - window.start <= longest for window in windows)
    covered = np.zeros(sum(lengths), int)
    for window in windows:
        covered[window.start : window.stop] += 1
    assert set(covered) <= {1, 2}
    ends = [0, *accumulate(lengths)]
    for window in windows:  # about their own passage
        middle = (window.start + window.stop - 1) / 2
        assert ends[window.passage] - overlap <= middle <= ends[window.passage + 1] + overlap
    layout = laid_out(windows)
    total = torch.zeros(layout.size).index_add(0, layout.index.flatten(), layout.weight.flatten())
    torch.testing.assert_close(total, torch.ones(layout.size))


def test_one_window_is_denoised_as_it_is_and_padding_is_its_own():
    x = torch.randn(1, 7, 3)
    assert torch.equal(windowed(lambda x, t: 2 * x, laid_out([Window(0, 0, 7)]))(x, torch.tensor([1])), 2 * x)
    layout = laid_out([Window(0, 0, 7), Window(1, 4, 9)], width=10)
    assert (layout.length, layout.size) == (9, 9 + 3 + 5)
    assert sorted(set(layout.index.flatten().tolist())) == list(range(17))
    x = torch.randn(1, 17, 3)
    torch.testing.assert_close(windowed(lambda x, t: x + t[:, None, None], layout)(x, torch.tensor([2])), x + 2)


def test_passages_become_tokens_without_losing_any():
    assert in_tokens([40, 40], 4) == [10, 10] and in_tokens([41], 4) == [11] and sum(in_tokens([7, 7, 7, 8], 4)) == 8
    assert in_tokens([1, 1, 40], 4)[:2] == [1, 1]
    assert equal_parts(10, 4) == [3, 3, 4] and equal_parts(4, 4) == [4]


def test_what_is_decoded_piece_by_piece_is_what_is_decoded_at_once():
    kernel = torch.tensor([0.2, 0.5, 0.1, 0.7, 0.3])

    def decode(tokens):
        return torch.nn.functional.conv1d(tokens.T[:, None], kernel[None, None], padding=2)[:, 0].T.repeat_interleave(2, dim=0)

    tokens = torch.randn(60, 3)
    pieces = list(decoded_pieces(tokens.split([7, 1, 1, 20, 31]), decode, 2, 2, 117))
    torch.testing.assert_close(torch.cat(pieces), decode(tokens)[:117])
    assert len(pieces) > 3


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), tiny_tokenizer(depth=3)])
def test_a_frame_depends_on_no_token_beyond_reach(tokenizer):
    ids = torch.randint(0, 8, (90, 1))
    other, reach = ids.clone(), tokenizer.network.decoder.reach
    other[60] = (other[60] + 1) % 8
    changed = (tokenizer.decode([ids])[0] != tokenizer.decode([other])[0]).any(-1).nonzero().flatten()
    assert changed.min() >= 4 * (60 - reach) and changed.max() < 4 * (61 + reach)


def test_a_frame_depends_on_no_latent_beyond_reach():
    model = latent_of()
    z, mask = torch.randn(1, 40, 4), torch.ones(1, 160, dtype=torch.bool)
    other = z.clone()
    other[0, 20] += 1
    changed = (model.from_diffused(z, mask) != model.from_diffused(other, mask))[0].any(-1).nonzero().flatten()
    assert changed.min() >= 4 * (20 - model.reach) and changed.max() < 4 * (21 + model.reach)


# ------------------------------------------------------------------------------------------------------------ in the world


def test_pieces_of_features_are_one_way_through_the_world():
    features = POOL_STATISTICS.features
    rows = features.encode(walk(120).astype(np.float32))
    whole = features.joints(rows).numpy()
    pieces = list(in_world(rows.split([30, 1, 50, 38]), features))
    assert [len(piece) for piece in pieces] == [30, 1, 50, 38]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=2e-4)


def test_going_on_is_a_turn_and_a_step():
    joints = walk(20)
    there = turned_about(joints, 2.0) + [3.0, 0.0, -1.0]
    np.testing.assert_allclose(going_on(joints, there[0]), there, atol=1e-9)


def test_an_arm_that_is_laid_over_turns_and_the_rest_stays():
    base, other = walking(num_frames=120), np.asarray(raise_hand(60, "right"), np.float64)
    arm = [HUMANML.index(f"right_{name}") for name in ("collar", "shoulder", "elbow", "wrist")]
    pieces = np.split(base, [30, 45, 100])
    made = np.concatenate(list(laid_over(pieces, [Laid(Reel(np.split(other, [7, 40])), 20, 80, arm)], 20.0, HUMANML)))
    rest = [joint for joint in range(22) if joint not in arm]
    np.testing.assert_allclose(made[:, rest], base[:, rest], atol=1e-9)
    assert np.array_equal(made[:20], base[:20]) and np.array_equal(made[80:], base[80:])
    assert np.abs(made[50, arm[-1]] - base[50, arm[-1]]).max() > 0.05
    lengths = [np.linalg.norm(bone_vectors(joints, HUMANML), axis=-1) for joints in (made, base)]
    np.testing.assert_allclose(*lengths, atol=1e-9)
    with pytest.raises(ValueError, match="60 more frames, 70 are wanted"):
        Reel([other]).take(70)


def test_stretches_are_cleaned_as_the_whole_where_cleaning_is_local():
    joints = np.random.default_rng(0).normal(size=(400, 3, 3))

    def smooth(x):
        return np.convolve(x[:, 0, 0], np.ones(5) / 5, "same")[:, None, None] * np.ones((1, 3, 3))

    made = list(in_stretches(np.split(joints, [90, 95, 300, 390]), smooth, 20, 5))
    np.testing.assert_allclose(np.concatenate(made), smooth(joints), atol=1e-12)
    assert [len(piece) for piece in at_least(np.split(joints, [90, 95, 300, 390]), 40)] == [90, 210, 100]
    assert [len(piece) for piece in at_least([joints[:3]], 40)] == [3]


def test_a_long_motion_is_cleaned_piece_by_piece_as_at_once():
    joints = walking(num_frames=320)
    cleanup = Cleanup(6.0, foot_lock=True)
    whole = np.concatenate(list(cleaned_pieces([joints], 20.0, "humanml", cleanup)))
    parts = np.concatenate(list(cleaned_pieces(np.split(joints, [100, 210]), 20.0, "humanml", cleanup)))
    assert np.abs(whole - joints).max() > 1e-3
    np.testing.assert_allclose(parts, whole, atol=0.02)  # bones of the legs have the mean length of a stretch


# --------------------------------------------------------------------------------------------------------------- timelines


def timeline_of(folder: Path, text: str) -> Timeline:
    (folder / "t.txt").write_text(text, encoding="utf-8")
    return read_timeline(folder / "t.txt")


def test_lines_follow_each_other_and_lie_over_each_other(tmp_path):
    text = "walks forward # 6\n\nwaves the right hand # 2 # 4\na person bows#3\nnods # 6.5 # 8 # head\n"
    timeline = timeline_of(tmp_path, text)
    assert [(said.text, said.start, said.end) for said in timeline.base] == [("walks forward", 0, 6), ("a person bows", 6, 9)]
    assert [(said.text, said.parts) for said in timeline.over] == [("waves the right hand", ("right arm",)), ("nods", ("head",))]
    assert timeline.passages(20.0) == [Passage("walks forward", 120), Passage("a person bows", 60)] and timeline.seconds == 9
    assert [(overlay.start, overlay.stop) for overlay in timeline.overlays(20.0)] == [(40, 80), (130, 160)]
    assert timeline.overlays(20.0)[0].joints == ("right_collar", "right_elbow", "right_shoulder", "right_wrist")
    assert timeline_of(tmp_path, timeline.told()) == Timeline(*(
        tuple(replace(said, number=number) for said, number in zip(kind, numbers))
        for kind, numbers in ((timeline.base, (1, 3)), (timeline.over, (2, 4)))))  # fmt: skip


def test_a_hand_alone_is_what_the_whole_body_does(tmp_path):
    timeline = timeline_of(tmp_path, "waves the right hand # 3\nclaps # 2\n")
    assert len(timeline.base) == 2 and not timeline.over


@pytest.mark.parametrize("text, parts", [
    ("waves the right hand", ("right arm",)), ("A person raises both hands", ("arms",)), ("claps", ("arms",)),
    ("looks around and points with the left hand", ("head", "left arm")), ("bows", ("upper body",)), ("walks and waves", ()),
    ("kicks with the left leg", ()), ("raises the left and the right hand", ("arms",)), ("someone moves happily", ()),
])  # fmt: skip
def test_words_name_parts(text, parts):
    assert parts_in(text) == parts


def test_a_text_over_one_arm_should_say_which():
    over = [Said(2, "a person waves", 1, 3, ("left arm",)), Said(3, "waves the right hand", 1, 3)]
    said = [Said(1, "a person walks", 0, 6), *over]
    (line,) = unsaid_sides(arranged(said))
    assert "line 2" in line and "waves the left hand" in line


@pytest.mark.parametrize("text, words", [
    ("", "holds no text"), ("walks\n", "line 1: 0 fields"), ("walks # two", "line 1: 'two' is no time"),
    ("walks # 3\nbows # 4 # 3", "line 2: lasts from 4 to 3 s"), ("walks # 0.1", "at least 0.5 s"), ("walks # nan", "no time"),
    ("walks # 0 # 3 # tail", "line 1: no part of the body is called 'tail': expected left arm"),
    ("walks # 0 # 3\nkicks # 1 # 2 # legs", "line 2: the legs carry the body"), ("walks # 2 # head", "need a start and an end"),
    ("walks # 0 # 3\nruns # 5 # 8", "from 3 to 5 s: add a line"), ("walks # 1 # 3", "from 0 to 1 s"),
    ("walks # 0 # 4\nruns # 3 # 8", "lines 1 and 2 both say what the whole body does from 3 to 4 s"),
    ("# 3", "line 1: the prompt is empty"), ("a # 1 # 2 # 3 # 4", "line 1: 4 fields"),
    ("walks # 0 # 4\nwaves # 2 # 6", "line 2: no text says what the rest of the body does from 4 to 6 s"),
    ("walks # 0 # 4\nwaves # 1 # 3\nclaps # 2 # 4", "lines 2 and 3 both say what the same part"),
    ("nods # 0 # 3 # head", "line 1: no text says what the rest"),
])  # fmt: skip
def test_a_bad_timeline_is_refused_with_its_line_and_the_remedy(tmp_path, text, words):
    with pytest.raises(PromptError) as said:
        timeline_of(tmp_path, text)
    assert words in str(said.value) and str(tmp_path / "t.txt") in str(said.value)


# ----------------------------------------------------------------------------------------------------------------- command


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("compose")
    model = latent_of()
    model.cleanup = Cleanup(5.0, foot_lock=True)
    save_pretrained(base / "latent", model)
    save_pretrained(base / "plain", lsremgm_of())
    (base / "t.txt").write_text("a person walks # 3\nwaves the left hand # 1 # 2.5\na person runs # 4\n")
    return base


def test_a_checkpoint_says_what_is_done_to_its_motions(folder, tmp_path):
    model = from_pretrained(folder / "latent")
    assert model.cleanup == Cleanup(5.0, foot_lock=True) and from_pretrained(folder / "plain").cleanup == Cleanup()
    assert read_config(folder / "latent")[0] == "latent"
    save_pretrained(tmp_path / "bad", model)
    config = tmp_path / "bad" / "config.json"
    config.write_text(config.read_text().replace('"jitter_filter": 5.0', '"jitter_filter": -5.0'))
    with pytest.raises(FileError, match="jitter_filter"):
        from_pretrained(tmp_path / "bad")


def test_a_timeline_becomes_the_files_of_a_run(folder, tmp_path, capsys):
    main([str(folder / "t.txt"), "--model_path", str(folder / "latent"), "--output_dir", str(tmp_path / "out"), "--no_video",
          "--html", "--num_repetitions", "2", "--report", "--device", "cpu"])  # fmt: skip
    made = [np.load(tmp_path / "out" / "joints" / f"prompt00_rep0{k}.npy") for k in range(2)]
    assert all(joints.shape == (140, 22, 3) and np.isfinite(joints).all() for joints in made) and not np.array_equal(*made)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"motions.npz", "motions.npy", "motions.txt", "prompt00.html", "timeline.txt"} <= names
    assert "waves the left hand # 1 # 2.5 # left arm" in (tmp_path / "out" / "timeline.txt").read_text()
    said = capsys.readouterr().out
    assert "prompt00_rep01" in said and "planted-foot speed" in said


def test_cleanup_is_the_checkpoints_own_and_off_by_flag(folder, tmp_path):
    def joints(**settings):
        name = "_".join(settings.values())
        run(ComposeOptions(timeline=folder / "t.txt", model_path=folder / "latent", output_dir=tmp_path / name, video=False,
                           device="cpu", **settings))  # fmt: skip
        return np.load(tmp_path / name / "joints" / "prompt00_rep00.npy")

    own, none, both = joints(cleanup="own"), joints(cleanup="none"), joints(cleanup="all")
    assert np.array_equal(own, both) and not np.array_equal(own, none)
    timeline = read_timeline(folder / "t.txt")
    expected = np.concatenate(list(composed(from_pretrained(folder / "latent"), timeline, derive_seed(10, "sample", 0, 0))))
    np.testing.assert_allclose(none, expected, atol=1e-5)


def test_what_is_refused_leaves_no_folder(folder, tmp_path):
    (tmp_path / "two.txt").write_text("walks # 3\nruns # 2 # 5\n")
    with pytest.raises(PromptError, match="lines 1 and 2"):
        main([str(tmp_path / "two.txt"), "--model_path", str(folder / "plain"), "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError):
        run(ComposeOptions(timeline=tmp_path / "none.txt", model_path=folder / "plain"))


def test_minilm_reads_each_text_of_a_long_motion_once_per_block():
    model, encoder, read = lsremgm_of(), load_text_encoder("minilm", disk_cache=False), []

    class Counted:
        def encode(self, texts):
            read.append(list(texts))
            return encoder.encode(texts)

    model.text_encoder = Counted()
    list(passages_in_world(model, [WALK, Passage("a person bows", 40)], 0, Decoding()))
    assert len(read) == 1


def test_a_long_timeline_is_read_in_one_pass_and_told_again_to_the_frame(tmp_path):
    lines = [line for k in range(10_000) for line in ("a person walks # 10.05", f"waves # {10.05 * k + 1} # {10.05 * k + 2.5}")]
    (tmp_path / "long.txt").write_text("\n".join(lines))
    started = time.process_time()
    timeline = read_timeline(tmp_path / "long.txt")
    assert time.process_time() - started < 10  # every line beside every other one would take a minute
    assert len(timeline.base) == len(timeline.over) == 10_000
    (tmp_path / "again.txt").write_text(timeline.told())
    again = read_timeline(tmp_path / "again.txt")
    assert again.passages(20.0) == timeline.passages(20.0) and again.overlays(20.0) == timeline.overlays(20.0)
