"""What a listener of a stream gets: the words as they come, how late each is, and the time to compute."""

import time

import jiwer
import numpy as np
import torch
from speech_attention.front_end import SAMPLE_RATE

KINDS = ("emitted", "closed")
"""What a delay runs to: the last letter of a word is out; it is known that this was the last one. See `Word`."""


@torch.inference_mode()
def listen(system, signals, packet):
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
        Time to compute after each packet of the batch: CPU time, so that other work on the machine does not count.
    frames : list of int
        Frames that then came out.
    """
    if packet is None:
        return _listen_to_the_end(system, signals)
    words, seconds, frames, recognizer = [[] for _ in signals], [], [], system.recognizer()
    live = [(recognizer.open(), signal, said) for signal, said in zip(signals, words)]
    while live:
        begin, before = time.process_time(), sum(stream.frames for stream, *_ in live)
        for stream, signal, _ in live:
            stream.feed(signal[stream.heard : stream.heard + packet])
            if stream.heard == len(signal):
                stream.close()
        outputs = recognizer.run([stream for stream, *_ in live])
        seconds.append(time.process_time() - begin)
        frames.append(sum(stream.frames for stream, *_ in live) - before)
        for (*_, said), output in zip(live, outputs):
            said += output.words
        live = [entry for entry in live if not entry[0].ended]
    return words, seconds, frames


def _listen_to_the_end(system, signals):
    words, seconds = [], []
    for signal in signals:
        begin = time.process_time()
        words.append(system.offline(signal).words)
        seconds.append(time.process_time() - begin)
    return words, seconds, [-(-len(signal) // system.model.front_end.hop) for signal in signals]


def delays(reference, ends, words):
    """How late each correctly recognised word of an utterance is; what is recognised as another word does not count.

    Arguments
    ---------
    reference : list of str
    ends : list of int
        Where each of its words ends, samples.
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


def distribution(values):
    """Median, 90th and 99th percentile, mean and count; all but the count are None where there are no values.

    Example
    -------
    >>> distribution(range(101))
    {'median': 50.0, 'p90': 90.0, 'p99': 99.0, 'mean': 50.0, 'count': 101}
    """
    numbers = [*np.percentile(values, [50, 90, 99]), np.mean(values)] if len(values) else [None] * 4
    numbers = (None if number is None else round(float(number), 3) for number in numbers)
    return {**dict(zip(("median", "p90", "p99", "mean"), numbers)), "count": len(values)}


def speed(system, signals, packets):
    """The time to compute on one core, one stream at a time, the packet sizes in turn on each utterance.

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
