"""How late each word of a stream is, and the time to compute: what `results.latency.delay` measures with."""

import itertools
import time
from collections.abc import Sequence

import jiwer
import numpy as np
import torch
from speech_attention.ctc import Word
from speech_attention.front_end import SAMPLE_RATE

from recipes.LibriSpeech.inference.loading import Trained
from recipes.LibriSpeech.inference.sessions import stream_rounds

KINDS = ("emitted", "closed")
"""The two ends of a delay: the last letter of a word came out; it is known that no letter follows. See `Word`."""


@torch.inference_mode()
def listen(system: Trained, signals: list[torch.Tensor], packet: int | None) -> tuple[list[list[Word]], list[float], list[int]]:
    """Recognise utterances as streams of one batch, which all begin at once and come in packets.

    Arguments
    ---------
    system : Trained
    signals : list of torch.Tensor
        (samples,) each.
    packet : int or None
        Samples that come at once; None: all of an utterance, one after the other, as a system that does not stream needs.

    Returns
    -------
    words : list of list of Word
        Of each utterance.
    seconds : list of float
        CPU time to compute after each packet of the batch; other work on the machine does not count.
    frames : list of int
        How many frames came out after each packet.
    """
    words, seconds, frames = [[] for _ in signals], [], []
    if packet is None:
        for said, signal in zip(words, signals):
            begin = time.process_time()
            said += system.offline(signal).words
            seconds.append(time.process_time() - begin)
            frames.append(-(-len(signal) // system.model.front_end.hop))
        return words, seconds, frames
    data = [{"id": place, "sig": signal} for place, signal in enumerate(signals)]
    done, begin = [0] * len(signals), time.process_time()
    for outputs in stream_rounds(system.recognizer(), data, itertools.repeat(packet), streams=len(signals)):
        seconds.append(time.process_time() - begin)
        frames.append(sum(stream.frames - done[utterance["id"]] for utterance, stream, _ in outputs))
        for utterance, stream, output in outputs:
            done[utterance["id"]] = stream.frames
            words[utterance["id"]] += output.words
        begin = time.process_time()
    return words, seconds, frames


def delays(reference: list[str], ends: list[int], words: list[Word]) -> list[tuple[float, float]]:
    """How late each correctly recognised word of an utterance is; a word that is recognised as another one does not count.

    Arguments
    ---------
    reference : list of str
    ends : list of int
        The sample at which each word of the reference ends.
    words : list of Word
        What was recognised.

    Returns
    -------
    list of tuple
        The delays (`emitted`, `closed`) in ms of audio.

    Example
    -------
    >>> from speech_attention.ctc import Word
    >>> words = [Word("A", 2, 2, emitted=1600, closed=3200), Word("X", 4, 4, emitted=3200, closed=3200)]
    >>> delays(["A", "B"], [800, 2400], words)
    [(50.0, 150.0)]
    """
    (chunks,) = jiwer.process_words(" ".join(reference), " ".join(word.text for word in words)).alignments
    pairs = [
        (ends[chunk.ref_start_idx + i], words[chunk.hyp_start_idx + i])
        for chunk in chunks
        if chunk.type == "equal"
        for i in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
    return [tuple(1000 * (getattr(word, kind) - end) / SAMPLE_RATE for kind in KINDS) for end, word in pairs]


def distribution(values: Sequence[float]) -> dict:
    """Median, 90th and 99th percentile, mean and count; all but the count are None where there are no values.

    Example
    -------
    >>> distribution(range(101))
    {'median': 50.0, 'p90': 90.0, 'p99': 99.0, 'mean': 50.0, 'count': 101}
    """
    numbers = [*np.percentile(values, [50, 90, 99]), np.mean(values)] if len(values) else [None] * 4
    numbers = (None if number is None else round(float(number), 3) for number in numbers)
    return {**dict(zip(("median", "p90", "p99", "mean"), numbers)), "count": len(values)}


def speed(system: Trained, signals: list[torch.Tensor], packets: list[int | None]) -> list[dict]:
    """The time to compute on one core, one stream at a time; each utterance is heard in packets of each length in turn.

    Arguments
    ---------
    system, signals
        See `listen`.
    packets : list of (int or None)
        Samples, see `listen`.

    Returns
    -------
    list of dict
        For each packet size: `real_time_factor`, the median over utterances; `compute_ms`, the `distribution` over the
        packets after which frames came out; `words` of each utterance.
    """
    threads = torch.get_num_threads()
    taken = [{"factors": [], "times": [], "words": []} for _ in packets]
    torch.set_num_threads(1)
    try:
        for packet in packets:  # warm up
            listen(system, signals[:1], packet)
        for signal in signals:
            for packet, of in zip(packets, taken):
                (words,), seconds, frames = listen(system, [signal], packet)
                of["words"].append(words)
                of["factors"].append(sum(seconds) * SAMPLE_RATE / len(signal))
                of["times"] += [1000 * took for took, came in zip(seconds, frames) if came]
    finally:
        torch.set_num_threads(threads)
    return [
        {
            "real_time_factor": round(float(np.median(of["factors"])), 5),
            "compute_ms": distribution(of["times"]),
            "words": of["words"],
        }
        for of in taken
    ]
