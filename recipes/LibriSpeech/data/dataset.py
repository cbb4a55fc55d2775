"""From manifests to SpeechBrain data sets and loaders."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from speech_attention.front_end import SAMPLE_RATE
from speechbrain.dataio.dataio import read_audio
from speechbrain.dataio.dataset import DynamicItemDataset

from recipes.command_line import UserError
from recipes.LibriSpeech import run_folder
from recipes.LibriSpeech.data.download import download
from recipes.LibriSpeech.data.prepare import Manifest, check_apart, find_root, prepare
from recipes.LibriSpeech.data.synthetic import embedded_corpus
from recipes.LibriSpeech.data.tree import some
from recipes.LibriSpeech.processes import main_first, tell
from recipes.LibriSpeech.sound.reader import read_whole
from recipes.LibriSpeech.tokens import LETTERS, MODEL, Tokens, learn, of_run


def read(path: str, duration: float) -> torch.Tensor:
    """Samples of a file, (samples,), that lasts as many seconds as its manifest says."""
    try:
        samples = read_audio(path)
    except RuntimeError:  # its header has no length, or it is damaged inside: preparation does not decode everything
        samples = read_whole(path)
    if samples.shape != (round(duration * SAMPLE_RATE),):
        raise UserError(f"{path} is not what it was when it was prepared: the same command prepares it again")
    return samples


def dataset(manifests: Iterable[Manifest], root: str | Path, tokens: Tokens = LETTERS) -> DynamicItemDataset:
    """The utterances of one or more splits, shortest first.

    Arguments
    ---------
    manifests : list of Manifest
    root : Path
        Folder that holds the splits.
    tokens : Tokens
        Of the targets.

    Returns
    -------
    DynamicItemDataset
        With items id, duration (s), sig (samples), words (str) and targets (token numbers).
    """
    rows: dict[str, dict] = {}
    for manifest in manifests:
        split = DynamicItemDataset.from_csv(manifest.path, replacements={"data_root": str(root)}).data
        if twice := sorted(rows.keys() & split.keys()):
            raise UserError(f"two splits of one set both have {some(twice, 'utterance')}: leave one of the splits out")
        rows.update(split)
    data = DynamicItemDataset(rows)
    data.add_dynamic_item(read, takes=["wav", "duration"], provides="sig")
    data.add_dynamic_item(str, takes="wrd", provides="words")
    data.add_dynamic_item(tokens.encode, takes="wrd", provides="targets")
    data.set_output_keys(["id", "sig", "words", "targets"])
    return data.filtered_sorted(sort_key="duration")


def absolute_lengths(batch_item: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """SpeechBrain's relative lengths as whole numbers of samples or tokens."""
    signal, relative = batch_item
    return (relative.double() * signal.size(1)).round().long()


def load_sets(hparams: Mapping, tokens_from: Path | None = None) -> tuple[dict, dict[str, Manifest], dict[str, str]]:
    """The data of an experiment, made or fetched if it must be, and prepared; its tokens are learned from it.

    Arguments
    ---------
    hparams : dict
        The loaded YAML. The manifests go to its `output_folder`.
    tokens_from : Path or None
        Folder of the run whose tokens it takes; None: tokens are learned, if they learn.

    Returns
    -------
    sets : dict
        `train` and `dev`, a DynamicItemDataset each, and `test`, one for each split.
    manifests : dict
        Manifest of each split.
    learned : dict
        The checksum of the file with what its tokens have learned, see `tokens.learn`.
    """
    tokens: Tokens = hparams["tokens"]
    folder, groups = hparams["data_folder"], {name: hparams[f"{name}_splits"] for name in ("train", "dev", "test")}
    splits = list(dict.fromkeys(split for group in groups.values() for split in group))
    if folder is None:
        folder = main_first(embedded_corpus, hparams["embedded_folder"])
    elif hparams["download"]:
        main_first(download, splits, folder)
    manifests = main_first(prepare, folder, hparams["output_folder"] / "manifests", splits, hparams["skip_bad"], tokens)
    check_apart(manifests, groups["train"], [*groups["dev"], *groups["test"]])
    learned = learn_tokens(hparams, manifests, tokens_from)
    root = find_root(folder)
    sets: dict = {name: dataset([manifests[split] for split in groups[name]], root, tokens) for name in ("train", "dev")}
    sets["test"] = {split: dataset([manifests[split]], root, tokens) for split in groups["test"]}
    if hparams["stage"] != "test":
        check_sound(sets["train"])
    if hparams["stage"] in ("all", "finetune"):
        check_dense(sets["train"], hparams["model"].front_end.hop, tokens)
    return sets, manifests, learned


def learn_tokens(hparams: Mapping, manifests: Mapping[str, Manifest], tokens_from: Path | None) -> dict[str, str]:
    """Let tokens that learn do so from the training transcripts, and say which letters of all splits they do not know.

    Arguments
    ---------
    hparams, tokens_from
        See `load_sets`.
    manifests : dict
        Manifest of each split.

    Returns
    -------
    dict
        See `tokens.learn`.
    """
    tokens, folder, train = hparams["tokens"], hparams["output_folder"], hparams["train_splits"]
    if not tokens.learns:
        return {}
    rows = {split: DynamicItemDataset.from_csv(manifest.path, {"data_root": ""}).data for split, manifest in manifests.items()}
    said = {split: [row["wrd"] for row in of_split.values()] for split, of_split in rows.items()}
    begun = run_folder.read_config(folder) or {}
    sentences, expected = [words for split in train for words in said[split]], begun.get("data", {}).get(MODEL)
    learned = main_first(learn, tokens, folder, sentences, tokens_from, expected)
    for split, texts in said.items():
        if found := sorted({letter for words in texts for letter in tokens.foreign.findall(words)}):
            words = f"{split} has letters that are not among {tokens.named}: {''.join(found)[:40]!r}"
            if split in train and hparams["finetune"]["epochs"]:  # so the tokens are those of another run
                raise UserError(f"{words}; give --pretrained in place of --weights: tokens are then learned anew")
            tell(f"WARNING: {words}; words with them count as errors", file=sys.stderr)
    return learned


def check_sound(train: DynamicItemDataset) -> None:
    """Refuse a training set in which nothing is to be heard."""
    with train.output_keys_as(["sig"]):  # of which it decodes no more than it must
        if all(item["sig"].min() == item["sig"].max() for item in train):
            raise UserError(f"all {len(train)} utterances of the training set are silence: look at how their audio was made")


def check_dense(train: DynamicItemDataset, hop: int, tokens: Tokens) -> None:
    """Say how many utterances have more tokens than frames, so that CTC learns nothing from them; refuse a set of such.

    Arguments
    ---------
    train : DynamicItemDataset
    hop : int
        Samples of a frame.
    tokens : Tokens
    """
    dense = []
    for name in train.data_ids:
        words, frames = train.data[name]["wrd"], math.ceil(train.data[name]["duration"] * SAMPLE_RATE / hop)
        if 2 * (len(words) + 1) > frames:  # else even letters have room
            targets = tokens.encode(words)
            doubled = int((targets[1:] == targets[:-1]).sum())  # a blank must part them
            dense += [name] if len(targets) + doubled > frames else []
    what = "pieces" if tokens.learns else "letters"
    said = f"{len(dense)} of {len(train)} training utterances have more {what} than frames of {1000 * hop / SAMPLE_RATE:g} ms"
    if len(dense) == len(train):
        raise UserError(
            f"{said}: CTC cannot learn from them; see whether these are the transcripts of this audio, or give a smaller --pool"
        )
    if dense:
        tell(f"WARNING: {said}, and CTC learns nothing from them: {', '.join(dense[:3])}", file=sys.stderr)


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
    tokens = of_run(config, Path(folder))
    manifest = prepare(data_folder, Path(folder) / "manifests", [split], config["skip_bad"], tokens)[split]
    return manifest, dataset([manifest], find_root(data_folder), tokens)


def spread(items: Sequence, count: int) -> list:
    """`count` of the items, or all if there are not so many, evenly spread over them.

    Example
    -------
    >>> spread("ABCDEFGH", 3)
    ['A', 'C', 'F']
    """
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]
