"""From manifests to SpeechBrain data sets and loaders, and the CTC tokens."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from speechbrain.dataio.dataio import read_audio
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler

from recipes.command_line import UserError
from recipes.LibriSpeech.data.download import download
from recipes.LibriSpeech.data.prepare import Manifest, find_root, prepare
from recipes.LibriSpeech.data.synthetic import embedded_corpus
from recipes.LibriSpeech.processes import main_first

TOKENS = ("<blank>", " ", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""The 29 characters of CTC; a space ends a word."""


def encode(words: str) -> torch.Tensor:
    """The token numbers of a transcript.

    Example
    -------
    >>> encode("A B").tolist()
    [3, 1, 4]
    """
    return torch.tensor([TOKENS.index(character) for character in words], dtype=torch.long)


def read(path: str) -> torch.Tensor:
    """Samples of a file, (samples,)."""
    try:
        return read_audio(path)
    except RuntimeError as error:  # whole by its length, damaged inside: preparation does not decode everything
        raise UserError(f"cannot decode {path}: put a sound copy there, or remove it and its transcript") from error


def dataset(manifests: Iterable[Manifest], root: str | Path) -> DynamicItemDataset:
    """The utterances of one or more splits, shortest first.

    Arguments
    ---------
    manifests : list of Manifest
    root : Path
        Folder that holds the splits.

    Returns
    -------
    DynamicItemDataset
        With items id, duration (s), sig (samples), words (str) and targets (token numbers).
    """
    rows: dict[str, dict] = {}
    for manifest in manifests:
        split = DynamicItemDataset.from_csv(manifest.path, replacements={"data_root": str(root)}).data
        if twice := sorted(rows.keys() & split.keys()):
            raise UserError(f"utterance {twice[0]} and {len(twice) - 1} more are in two splits of one set: leave one out")
        rows.update(split)
    data = DynamicItemDataset(rows)
    data.add_dynamic_item(read, takes="wav", provides="sig")
    data.add_dynamic_item(lambda words: words, takes="wrd", provides="words")
    data.add_dynamic_item(encode, takes="wrd", provides="targets")
    data.set_output_keys(["id", "sig", "words", "targets"])
    return data.filtered_sorted(sort_key="duration")


def batches(data: DynamicItemDataset, batch_seconds: float, seed: int) -> DynamicBatchSampler:
    """A sampler of training batches of utterances of like length, about `batch_seconds` of audio each, shuffled by epoch."""
    return DynamicBatchSampler(data, batch_seconds, num_buckets=12, shuffle=True, batch_ordering="random", seed=seed)


def absolute_lengths(batch_item: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """SpeechBrain's relative lengths as whole numbers of samples or tokens."""
    signal, relative = batch_item
    return (relative.double() * signal.size(1)).round().long()


def load_sets(hparams: Mapping) -> tuple[dict, dict[str, Manifest]]:
    """The data of an experiment, made or fetched if it must be, and prepared.

    Arguments
    ---------
    hparams : dict
        The loaded YAML. The manifests go to its `output_folder`.

    Returns
    -------
    sets : dict
        `train` and `dev`, a DynamicItemDataset each, and `test`, one for each split.
    manifests : dict
        Manifest of each split.
    """
    folder, groups = hparams["data_folder"], {name: hparams[f"{name}_splits"] for name in ("train", "dev", "test")}
    splits = list(dict.fromkeys(split for group in groups.values() for split in group))
    if folder is None:
        folder = main_first(embedded_corpus, hparams["embedded_folder"])
    elif hparams["download"]:
        main_first(download, splits, folder)
    manifests = main_first(prepare, folder, hparams["output_folder"] / "manifests", splits, hparams["skip_bad"])
    root = find_root(folder)
    sets: dict = {name: dataset([manifests[split] for split in groups[name]], root) for name in ("train", "dev")}
    sets["test"] = {split: dataset([manifests[split]], root) for split in groups["test"]}
    return sets, manifests


def load_split(
    folder: str | Path, config: Mapping, split: str | None = None, data_folder: str | Path | None = None
) -> tuple[Manifest, DynamicItemDataset]:
    """The utterances of a split, from the data that the experiment was made with.

    Arguments
    ---------
    folder : str or Path
        Of the experiment; the manifest goes there, as in training.
    config : dict
        Its resolved configuration, see `inference.loading.load`.
    split : str or None
        None: the first test split.
    data_folder : str or Path or None
        A LibriSpeech tree; None: the one of the configuration, or the embedded corpus if it has none.

    Returns
    -------
    manifest : Manifest
    data : DynamicItemDataset
        Shortest first, see `data.dataset`.
    """
    split = split or config["test_splits"][0]
    data_folder = data_folder or config["data_folder"] or embedded_corpus(config["embedded_folder"])
    manifest = prepare(data_folder, Path(folder) / "manifests", [split], config["skip_bad"])[split]
    return manifest, dataset([manifest], find_root(data_folder))


def spread(items: Sequence, count: int) -> list:
    """`count` of the items, or all if there are not so many, evenly spread over them.

    Example
    -------
    >>> spread("ABCDEFGH", 3)
    ['A', 'C', 'F']
    """
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]
