"""Greedy CTC decoding and word error rates.

A word error rate is counted twice, by SpeechBrain and by jiwer, and comes with a bootstrap confidence interval.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch
from speechbrain.decoders import ctc_greedy_decode
from speechbrain.utils.metric_stats import ErrorRateStats

from recipes.command_line import UserError
from recipes.files import write_text
from recipes.LibriSpeech.decoding import bootstrap

Words = Mapping[str, Sequence[str]]
"""From utterance id to its words."""


@dataclass(frozen=True)
class Utterance:
    """One utterance, and the edits that turn its reference into its hypothesis."""

    id: str
    reference: list[str]
    hypothesis: list[str]
    substitutions: int
    insertions: int
    deletions: int

    @property
    def errors(self) -> int:
        """Number of word errors."""
        return self.substitutions + self.insertions + self.deletions


@dataclass(frozen=True)
class Score:
    """Word error rate of a test set in percent, with the bounds of its 95 % bootstrap interval, and its counts."""

    wer: float
    low: float
    high: float
    sentence_error_rate: float
    substitutions: int
    insertions: int
    deletions: int
    words: int
    utterances: int

    def as_dict(self) -> dict[str, float]:
        """The fields as plain numbers for JSON, percentages to three decimals."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def greedy_words(log_probs: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[str], blank: int = 0) -> list[list[str]]:
    """Decodes CTC outputs greedily: the best token of each frame, repetitions merged, blanks removed, cut into words.

    Arguments
    ---------
    log_probs : torch.Tensor
        Log-probabilities, (batch, time, tokens). What lies beyond an utterance's length is never read.
    lengths : torch.Tensor
        Number of frames of each utterance, (batch,).
    tokens : list of str
        The text of each output; words are parted by spaces.
    blank : int
        Index of the CTC blank.

    Returns
    -------
    list of list of str
        The words of each utterance.

    Example
    -------
    >>> frames = torch.tensor([[1, 1, 0, 1, 2, 3, 3], [3, 1, 2, 2, 0, 0, 0]])
    >>> log_probs = torch.nn.functional.one_hot(frames, 4).log()
    >>> greedy_words(log_probs, torch.tensor([7, 2]), ["<blank>", "A", " ", "B"])
    [['AA', 'B'], ['BA']]
    """
    # The decoder takes relative lengths and rounds their product with `time`: in float64 that gives back every count.
    relative = torch.as_tensor(lengths).cpu().double() / max(log_probs.shape[1], 1)
    decoded = ctc_greedy_decode(log_probs, relative, blank_id=blank)
    return ["".join(tokens[index] for index in indices).split() for indices in decoded]


def score(
    references: Words, hypotheses: Words, seed: int = 0, resamples: int = bootstrap.RESAMPLES
) -> tuple[Score, list[Utterance]]:
    """Counts word errors and gives the word error rate with its 95 % bootstrap interval.

    An utterance with an empty reference adds its hypothesised words as insertions. SpeechBrain and jiwer must find the
    same number of errors in every utterance; the split into substitutions, insertions and deletions is SpeechBrain's.

    Arguments
    ---------
    references : dict
        From utterance id to the list of words that were said.
    hypotheses : dict
        From utterance id to the list of words that were recognised; the same ids.
    seed : int
        Seed of the bootstrap.
    resamples : int
        Number of bootstrap samples.

    Returns
    -------
    score : Score
        The whole test set.
    utterances : list of Utterance
        Its utterances, sorted by id.

    Example
    -------
    >>> total, utterances = score({"u1": ["A", "B"], "u2": ["C", "D"]}, {"u1": ["A", "B"], "u2": ["C", "X", "Y"]})
    >>> total.wer, total.substitutions, total.insertions, total.sentence_error_rate
    (50.0, 1, 1, 50.0)
    >>> utterances[1].errors
    2
    """
    _check(references, hypotheses)
    utterances = _count_errors(references, hypotheses)
    errors = np.array([utterance.errors for utterance in utterances])
    words = np.array([len(utterance.reference) for utterance in utterances])
    low, high = bootstrap.interval(errors, words, range(len(words)), seed=seed, resamples=resamples)
    return (
        Score(
            wer=100 * int(errors.sum()) / int(words.sum()),
            low=low,
            high=high,
            sentence_error_rate=100 * int((errors > 0).sum()) / len(utterances),
            substitutions=sum(utterance.substitutions for utterance in utterances),
            insertions=sum(utterance.insertions for utterance in utterances),
            deletions=sum(utterance.deletions for utterance in utterances),
            words=int(words.sum()),
            utterances=len(utterances),
        ),
        utterances,
    )


def write_utterances(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Writes one tab-separated line per utterance, sorted by id, below a header.

    Arguments
    ---------
    path : str or Path
        The file to write.
    utterances : list of Utterance
        As `score` returns them.

    Example
    -------
    >>> import tempfile
    >>> from pathlib import Path
    >>> _, utterances = score({"u1": ["A", "B"]}, {"u1": ["A"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "test.tsv"
    ...     write_utterances(path, utterances)
    ...     path.read_text().splitlines()[1].split("\\t")
    ['u1', '2', '1', '0', '0', '1', 'A B', 'A']
    """
    lines = ["id\twords\terrors\tsubstitutions\tinsertions\tdeletions\treference\thypothesis"]
    for u in sorted(utterances, key=lambda utterance: utterance.id):
        counts = f"{len(u.reference)}\t{u.errors}\t{u.substitutions}\t{u.insertions}\t{u.deletions}"
        lines.append(f"{u.id}\t{counts}\t{' '.join(u.reference)}\t{' '.join(u.hypothesis)}")
    write_text(path, "\n".join(lines) + "\n")


def _check(references: Words, hypotheses: Words) -> None:
    """Refuses what cannot be scored: unequal ids, words that are not words, no reference words at all."""
    if missing := sorted(references.keys() - hypotheses.keys()):
        raise UserError(f"{len(missing)} of the utterances have no hypothesis, for instance '{missing[0]}'")
    if extra := sorted(hypotheses.keys() - references.keys()):
        raise UserError(f"{len(extra)} of the hypotheses have no reference, for instance '{extra[0]}'")
    for kind, texts in (("reference", references), ("hypothesis", hypotheses)):
        for key, words in texts.items():
            if isinstance(words, str) or " ".join(words).split() != list(words):
                raise UserError(f"the {kind} of '{key}' must be a list of words without white space")
    if not any(references.values()):
        raise UserError("the references contain no words: there is no word error rate to compute")


def _count_errors(references: Words, hypotheses: Words) -> list[Utterance]:
    """Aligns every utterance with SpeechBrain and holds its error and word counts against jiwer's."""
    ids = sorted(references)
    stats = ErrorRateStats()
    stats.append(ids, predict=[hypotheses[key] for key in ids], target=[references[key] for key in ids])
    other = jiwer.process_words([" ".join(references[key]) for key in ids], [" ".join(hypotheses[key]) for key in ids])
    utterances = []
    for key, counts, reference, chunks in zip(ids, stats.scores, other.references, other.alignments):
        other_errors = sum(
            max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in chunks
            if chunk.type != "equal"
        )
        if (counts["num_edits"], counts["num_ref_tokens"]) != (other_errors, len(reference)):
            raise RuntimeError(
                f"utterance '{key}': SpeechBrain counts {counts['num_edits']} errors in {counts['num_ref_tokens']} "
                f"words, jiwer {other_errors} in {len(reference)}"
            )
        edits = {kind: counts[kind] for kind in ("substitutions", "insertions", "deletions")}
        utterances.append(Utterance(key, list(references[key]), list(hypotheses[key]), **edits))
    return utterances
