"""Prepared datasets made into one: names and labels tell where a clip comes from, and each recording is used once."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_loaders.corpus import Corpus
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.feature_statistics import mean_std
from data_loaders.features import Statistics
from data_loaders.input_files import SPLITS
from data_loaders.packed_clips import REPORT
from data_loaders.preparation import CLIP_FILES, save_array
from data_loaders.text import write_caption_file
from protos.files import safe_name, shown
from protos.outputs import OutputError, Outputs
from protos.reading import FileError

log = logging.getLogger(__name__)
RECORDING = "recording"  # label: what a recording is called wherever it is published ("CMU 02_01"), by which it is told twice


@dataclass(frozen=True)
class Source:
    """A dataset on its way into another: its name there, its clips that are used, and recordings that another one brings."""

    name: str
    corpus: Corpus
    splits: dict[int, str]  # of the clips that are used
    left_out: dict[str, str]  # recording -> the dataset that brings it

    def name_of(self, clip: int) -> str:
        """A clip's name in the merged dataset."""
        return f"{self.name}__{self.corpus.names[clip]}"

    def labels_of(self, clip: int) -> dict:
        """Its labels, and where it comes from: `dataset`, and `original`, its recording's name there."""
        labels = self.corpus.labels[clip]
        original = labels.get("source", self.corpus.names[clip])
        return {**labels, "dataset": self.name, "original": original, "source": f"{self.name}__{original}"}


def merge(datasets: Sequence[str], output: Path, overwrite: bool = False) -> list[Source]:
    """Makes the datasets' clips one dataset in `output`: one set of statistics, split lists, packed corpus, report.txt.

    A recording that several datasets have (by its label `recording`) comes with its split from the first of them. ValueError or
    OSError where they do not go together: other features, the same name twice, no training clips.
    """
    sources = chosen(datasets)
    features = sources[0].corpus.features
    if any(source.corpus.folder.resolve() == output.resolve() for source in sources):
        raise OutputError(f"--output {output} is one of the datasets: give another one")
    outputs = Outputs(output, "dataset", overwrite=overwrite)
    used = [(source, clip) for source in sources for clip in source.splits]
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    for source, clip in used:
        lists[source.splits[clip]].append(source.name_of(clip))
    if not lists["train"]:
        raise ValueError("none of the datasets has a clip in its train split")
    files = {form.format(source.name_of(clip)) for source, clip in used for form in CLIP_FILES}
    outputs.claim(*files)
    mean, std = (np.asarray(each, np.float32) for each in mean_std(
        (source.corpus[clip] for source, clip in used if source.splits[clip] == "train"), features))

    def clips() -> Iterator[NewClip]:
        for source, clip in tqdm(used, desc="clips", unit="clip", disable=None):
            corpus, name = source.corpus, source.name_of(clip)
            rows, joints, texts = (outputs.path(form.format(name)) for form in CLIP_FILES)
            save_array(rows, corpus[clip])
            save_array(joints, corpus.joints(clip))
            captions = corpus.captions(clip, person=None)
            write_caption_file(texts, captions)
            yield NewClip(name, corpus[clip], captions, source.labels_of(clip))

    taggers = {source.corpus.tagger for source in sources}
    write_corpus(output, clips(), features, Statistics(mean, std, features), taggers.pop() if len(taggers) == 1 else "")
    save_array(outputs.path("Mean.npy"), mean)
    save_array(outputs.path("Std.npy"), std)
    for split, names in lists.items():
        outputs.write(f"{split}.txt", "".join(f"{name}\n" for name in names))
    report = outputs.write(REPORT, report_text(sources))
    # What an earlier merging left goes last: until the new dataset is whole, the former one can be read.
    current = {*files, "Mean.npy", "Std.npy", REPORT, *(f"{split}.txt" for split in SPLITS)}
    outputs.remove(*(outputs.listed - current))
    log.info("%d clips of %d datasets (%s)", len(used), len(sources), report)
    return sources


def chosen(datasets: Sequence[str]) -> list[Source]:
    """The datasets opened, each with the clips that no earlier one brings."""
    brought: dict[str, str] = {}
    sources: list[Source] = []
    for each in datasets:
        corpus = Corpus.open(each)
        name = safe_name(corpus.folder.resolve().name)
        if corpus.of_files:
            raise FileError(f"{corpus.folder} holds annotations of files, not prepared clips: it cannot be merged")
        if any(name == source.name for source in sources):
            raise ValueError(f"two datasets are called {name}: rename a folder")
        if sources:
            first = sources[0].corpus
            first.features.require(corpus.features, str(first.folder), f"dataset {corpus.folder}")
        recording = [str(labels.get(RECORDING) or "") for labels in corpus.labels]
        listed = [(clip, split) for split in SPLITS if (corpus.folder / f"{split}.txt").is_file() for clip in corpus.split(split)]
        splits = dict(listed)
        twice = {recording[clip]: brought[recording[clip]] for clip in splits if recording[clip] in brought}
        kept = {clip: split for clip, split in sorted(splits.items()) if recording[clip] not in twice}
        require_one_split(corpus, recording, [each for each in listed if each[0] in kept])
        brought |= {recording[clip]: name for clip in kept if recording[clip]}
        sources.append(Source(name, corpus, kept, twice))
    return sources


def require_one_split(corpus: Corpus, recording: Sequence[str], listed: Sequence[tuple[int, str]]) -> None:
    """FileError where a recording is in two splits: training on it would give the test away."""
    found: dict[str, str] = {}
    for clip, split in listed:
        name = recording[clip] or str(corpus.labels[clip].get("source", corpus.names[clip]))
        if found.setdefault(name, split) != split:
            raise FileError(f"{corpus.folder}: recording {shown(name)} is in {found[name]} and in {split}, expected one "
                            "split for all of it")  # fmt: skip


def report_text(sources: Sequence[Source]) -> str:
    """report.txt: what each dataset brings, recordings that were left out, and recordings per content and split."""
    lines = []
    for source in sources:
        counts = Counter(source.splits.values())
        said = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
        lines.append(f"{source.name} ({source.corpus.folder}): {len(source.splits)} clips ({said})")
        without = [clip for clip in range(len(source.corpus)) if clip not in source.splits
                   and str(source.corpus.labels[clip].get(RECORDING) or "") not in source.left_out]  # fmt: skip
        if without:
            lines.append(f"  {len(without)} clips left out: no split list names them")
        for name, by in sorted(source.left_out.items()):
            lines.append(f"  {name} left out: {by} brings this recording")
    contents: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for source in sources:
        for clip, split in source.splits.items():
            labels = source.labels_of(clip)
            contents[str(labels.get("content", ""))][split].add(labels["source"])
    lines += ["", "Recordings by content (train, val, test):"]
    for content, found in sorted(contents.items(), key=lambda item: -len(item[1]["train"])):
        lines.append(f"  {content or 'without'}: " + ", ".join(str(len(found[split])) for split in SPLITS))
    return "\n".join(lines) + "\n"
