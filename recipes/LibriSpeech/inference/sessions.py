"""A test set through the streaming system, several utterances at once."""

import random
from collections.abc import Iterable, Iterator, Sequence

from speech_attention.front_end import SAMPLE_RATE
from speech_attention.recognizer import Output, Recognizer, Stream
from tqdm import tqdm


def random_hops(seed: int) -> Iterator[int]:
    """An endless row of hops, 1 to 16000 samples (1 s) each, every size as likely as any other."""
    generator = random.Random(seed)
    while True:
        yield generator.randint(1, SAMPLE_RATE)


def stream_rounds(
    recognizer: Recognizer, data: Sequence[dict], hops: Iterable[int], streams: int
) -> Iterator[list[tuple[dict, Stream, Output]]]:
    """Feed utterances to streams of one batch, a hop to each in every round; a new one begins where one has ended.

    Arguments
    ---------
    recognizer : Recognizer
    data : sequence of dict
        Utterances with `id` and `sig`, (samples,).
    hops : iterable of int
        Samples that every open stream is fed in each round, e.g. of `random_hops`.
    streams : int
        Utterances at once.

    Yields
    ------
    list of (dict, Stream, Output)
        After each round, for each open stream: its utterance, the stream, and what came out in this round.

    Raises
    ------
    ValueError
        If there are no streams, or a hop is 0 or less, or hops end before the utterances do.
    """
    if streams < min(1, len(data)):
        raise ValueError(f"streams={streams} must be 1 or more")
    waiting, live = iter(range(len(data))), list[tuple[dict, Stream]]()
    for hop in hops:
        if hop < 1:
            raise ValueError(f"a hop of {hop} samples: it must be 1 or more")
        while len(live) < streams and (place := next(waiting, None)) is not None:
            live.append((data[place], recognizer.open()))
        if not live:
            return
        for utterance, stream in live:
            stream.feed(utterance["sig"][stream.heard : stream.heard + hop])
            if stream.heard == len(utterance["sig"]):
                stream.close()
        outputs = recognizer.run([stream for _, stream in live])
        yield [(*entry, output) for entry, output in zip(live, outputs)]
        live = [entry for entry in live if not entry[1].ended]
    raise ValueError("the hops ended before the utterances did")


def stream_words(recognizer: Recognizer, data: Sequence[dict], hops: Iterable[int], streams: int) -> dict[str, list[str]]:
    """Recognise the utterances of a set as streams of one batch.

    Arguments
    ---------
    recognizer, hops, streams
        See `stream_rounds`.
    data : DynamicItemDataset
        With items `id` and `sig`, see `data.dataset`.

    Returns
    -------
    dict
        From utterance id to the list of words.
    """
    words: dict[str, list[str]] = {}
    with tqdm(total=len(data), desc="streaming", disable=None, leave=False) as bar:
        for outputs in stream_rounds(recognizer, data, hops, streams):
            for utterance, stream, output in outputs:
                words.setdefault(utterance["id"], []).extend(word.text for word in output.words)
                bar.update(stream.ended)
    return words
