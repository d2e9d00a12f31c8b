"""Golden cases of texts and published loaders: tokens, word vectors, entries, items, windows."""

import random
from typing import Any

import numpy as np

from data_loaders import glove, humanml
from data_loaders.clips import Clips
from data_loaders.text import parse_caption, text_for_tagger, tokens_from_analysis, word_lists
from tests.golden import published_loaders as loaders
from tests.golden.runner import Case


class PublishedDraws(humanml.LoaderDraws):
    """Draws from Python's and numpy's global generators, as the originals do."""

    def __init__(self, seeds: dict[str, int]):
        random.seed(seeds["python_random"])
        np.random.seed(seeds["numpy_global"])

    def choice(self, options: Any) -> Any:
        return random.choice(options)

    def randint(self, low: int, high: int) -> int:
        return random.randint(low, high)

    def coin(self) -> str:
        return str(np.random.choice(list(humanml.COIN)))


def require_our_constants(config: dict[str, Any]) -> None:
    """A case with another table or rule than ours must not pass by accident."""
    ours = {
        "pos_classes": list(glove.POS_CLASSES),
        "vip": word_lists()["evaluator"],
        "vip_order": list(word_lists()["evaluator"]),
        "vector_dims": glove.VECTOR_DIM,
        "max_text_len": glove.MAX_TEXT_LEN,
        "max_motion_length": humanml.MAX_FRAMES,
        "part_tag_frames_per_second": humanml.TAG_FPS,
    }
    for name, value in ours.items():
        if config.get(name, value) != value:
            raise ValueError(f"the case has {name} {config[name]}, the loaders {value}")


def tokenise(case: Case) -> dict[str, Any]:
    tokens = tokens_from_analysis(case.inputs["analysis"])
    words, pos = zip(*(token.split("/") for token in tokens))
    return {
        "text_given_to_tagger": text_for_tagger(case.inputs["sentence"]),
        "words": list(words),
        "pos": list(pos),
        "line_tokens": " ".join(tokens),
    }


def word_vectors(case: Case) -> dict[str, Any]:
    require_our_constants(case.config)
    vectorizer = glove.WordVectorizer(case.inputs["vocabulary"], case.config["vocabulary_prefix"])
    vectors, classes = zip(*(vectorizer.lookup(str(token)) for token in case.inputs["tokens"]))
    onehot = np.eye(len(glove.POS_CLASSES), dtype=np.float32)[list(classes)]
    return {"vectors": np.stack(vectors), "pos_onehot": np.stack(onehot)}


def classes_of_vocabulary(case: Case) -> dict[str, Any]:
    require_our_constants(case.config)
    words = case.inputs["words"]
    words = words.split() if isinstance(words, str) else words
    return {"pos_index": np.array([glove.pos_class(word, case.config["tag"]) for word in words])}


def clips(case: Case) -> Clips:
    texts = case.inputs.get("texts", {})
    return Clips(
        case.inputs["split"],
        lambda name: case.inputs["motions"][name],
        lambda name: [parse_caption(line) for line in texts[name]],
    )


def limits(case: Case) -> tuple[int, int]:
    return case.config["min_frames"], case.config["max_frames_exclusive"]


def entries(case: Case) -> dict[str, Any]:
    require_our_constants(case.config)
    draws = PublishedDraws(case.config["construction_seeds"])
    chosen, _ = humanml.select_entries(clips(case), limits(case), case.config["feature_dims"], draws)
    lengths = [len(entry.motion) for entry in chosen]
    return {
        "len": len(chosen),
        "pointer": int(np.searchsorted(lengths, case.config["start_max_length"])),
        "names": [entry.name for entry in chosen],
        "lengths": lengths,
        "captions": [[caption.text for caption in entry.captions] for entry in chosen],
    }


def dataset(case: Case) -> loaders.EvaluationDataset:
    require_our_constants(case.config)
    made = loaders.EvaluationDataset(
        clips(case),
        glove.WordVectorizer(case.inputs["vocabulary"]),
        case.inputs["mean"],
        case.inputs["std"],
        limits(case),
        PublishedDraws(case.config["construction_seeds"]),
        case.config["unit_length"],
    )
    made.require_length(case.config["start_max_length"])
    return made


def evaluation_items(case: Case) -> dict[str, Any]:
    data = dataset(case)
    draws = PublishedDraws(case.config["item_seeds"])
    items = [data.item(index, draws) for index in case.inputs["index"]]
    return {
        "caption": [item.text for item in items],
        "sent_len": [item.words.length for item in items],
        "m_length": [item.length for item in items],
        "tokens": ["_".join(item.words.tokens) for item in items],
        "pos_argmax": [item.words.pos_onehot.argmax(-1).tolist() for item in items],
        "first_frame": np.stack([item.motion[0, :5] for item in items]),
        "last_frame": np.stack([item.motion[item.length - 1, :5] for item in items]),
        "sum": np.array([loaders.padded(item.motion).sum() for item in items]),
        "word_sum": np.array([item.words.vectors.sum() for item in items]),
    }


def curriculum_items(case: Case) -> dict[str, Any]:
    data = dataset(case)
    draws = PublishedDraws(case.config["item_seeds"])
    if case.config["reset_max_len"]:
        data.require_length(case.config["reset_max_len"])
    make = data.length_estimator_item if case.config["is_train"] else data.item
    items = [make(index, draws) for index in case.inputs["index"]]
    return {
        "max_length": data.longest,
        "pointer": data.pointer,
        "len": len(data),
        "caption": [item.text for item in items],
        "sent_len": [item.words.length for item in items],
        "motion_frames": [len(item.motion) for item in items],
        "m_length": [item.length for item in items],
        "first_frame": np.stack([item.motion[0, :5] for item in items]),
        "last_frame": np.stack([item.motion[-1, :5] for item in items]),
    }


def sort_batch(case: Case) -> dict[str, Any]:
    return {"order": loaders.order_by_text_length(case.inputs["sent_len"])}


def windows(case: Case) -> dict[str, Any]:
    data = loaders.WindowDataset(clips(case), case.config["window_size"], case.inputs["mean"], case.inputs["std"])
    cut = [data[index] for index in case.inputs["index"]]
    row, column = case.config["first"], case.config["last"]
    return {
        "n_motions": len(data.motions),
        "lengths": data.snippets,
        "cumsum": data.offsets,
        "len": len(data),
        "first": np.array([window[tuple(row)] for window in cut]),
        "last": np.array([window[tuple(column)] for window in cut]),
    }


HANDLERS = {
    "tokenise_with_given_analysis": tokenise,
    "word_vectorizer": word_vectors,
    "pos_class_of_every_word": classes_of_vocabulary,
    "evaluation_loader_entries": entries,
    "evaluation_loader_items": evaluation_items,
    "curriculum_loader_items": curriculum_items,
    "sort_batch": sort_batch,
    "window_dataset": windows,
}
