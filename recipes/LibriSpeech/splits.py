"""A split of the data of a trained experiment."""

from pathlib import Path

from .data import dataset
from .embedded import embedded_corpus
from .prepare import find_root, prepare


def load_split(folder, config, split=None, data_folder=None):
    """The utterances of a split, from the data that the experiment was made with.

    Arguments
    ---------
    folder : str or Path
        Of the experiment; the manifest goes there, as in training.
    config : dict
        Its resolved configuration, see `trained.load`.
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


def spread(items, count):
    """`count` of the items, or all if there are not so many, evenly spread over them.

    Example
    -------
    >>> spread("ABCDEFGH", 3)
    ['A', 'C', 'F']
    """
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]
