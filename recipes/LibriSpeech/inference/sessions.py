"""A test set through the streaming system, several utterances at once."""

import random

from speech_attention.front_end import SAMPLE_RATE
from tqdm import tqdm


def random_hops(seed, largest=SAMPLE_RATE):
    """An endless row of hops, 1 to `largest` samples each (1 s), every size as likely as any other."""
    generator = random.Random(seed)
    while True:
        yield generator.randint(1, largest)


def stream_words(recognizer, data, hops, streams=16):
    """Recognise the utterances of a set as streams of one batch; a new one begins where one has ended.

    Arguments
    ---------
    recognizer : Recognizer
    data : DynamicItemDataset
        With items `id` and `sig`, see `data.dataset`.
    hops : iterable of int
        Samples that every open stream is fed in each round, e.g. of `random_hops`.
    streams : int
        Utterances at once.

    Returns
    -------
    dict
        From utterance id to the list of words.
    """
    waiting, live, words = iter(range(len(data))), [], {}
    bar = tqdm(total=len(data), desc="streaming", disable=None, leave=False)
    for hop in hops:
        while len(live) < streams and (index := next(waiting, None)) is not None:
            live.append((recognizer.open(), data[index]))
        for stream, utterance in live:
            rest = utterance["sig"][stream.heard :]
            stream.feed(rest[:hop])
            if len(rest) <= hop:
                stream.close()
        for (stream, utterance), output in zip(live, recognizer.run([stream for stream, _ in live])):
            words.setdefault(utterance["id"], []).extend(word.text for word in output.words)
            bar.update(stream.ended)
        live = [(stream, utterance) for stream, utterance in live if not stream.ended]
        if not live and len(words) == len(data):
            bar.close()
            return words
