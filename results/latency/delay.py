"""The delay of a word: how long after the end of a word its text comes.

    python -m results.latency.delay results/runs/llsa-mini-embedded-seed1
    python -m results.latency.delay results/runs/mine --split dev-clean --alignments /path/to/TextGrids --hops 40 1000

A split is streamed in packets, once for each length of `--hops`. Each word that is recognised correctly has two delays, in
time of the audio, as if computing took no time: from the end of the word to the moment when its last letter came out
(`emitted`), and to the moment when it was known to be whole (`closed`; the last word of an utterance is whole when the
utterance ends). The time to compute is measured beside it: CPU time of one stream on one core.

The end of a word is taken from a TextGrid. Without TextGrids it is where the system's own CTC path through the reference has
the last letter of the word; that says when the system is ready to write it, and not when the sound ends. An attention without
a streaming form says everything at the end of the utterance.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from speech_attention.front_end import SAMPLE_RATE
from tqdm import tqdm

from recipes import files, text_table
from recipes.command_line import Parser, UserError, exit_code
from recipes.LibriSpeech.data.alignments import ctc_ends, find_textgrids, spoken_ends
from recipes.LibriSpeech.data.dataset import load_split, spread
from recipes.LibriSpeech.decoding.wer import score
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.inference.loading import Trained
from results.common import origin
from results.latency.word_delays import KINDS, delays, distribution, listen, speed

HOPS_MS = (160, 320, 1000)  # beside one frame
STREAMS = 64  # utterances in a batch; delays in time of the audio do not depend on it
SPEED_SECONDS = 60  # of audio on which the time to compute is measured
RESULTS = Path(__file__).with_name("delays")


@torch.inference_mode()
def word_ends(system: Trained, utterance: dict, textgrids: dict[str, Path] | None) -> list[int] | None:
    """Where each word of the reference ends, in samples; None where no alignment fits the transcript, see `alignments`."""
    words, signal = utterance["words"].split(), utterance["sig"]
    if textgrids:
        ends = spoken_ends(textgrids[utterance["id"]], words, len(signal))
    else:
        log_probs, _ = system.model(signal[None], torch.tensor([len(signal)]))
        ends = ctc_ends(log_probs[0], words, system.model.front_end.hop, system.tokens)
    return ends and [min(end, len(signal)) for end in ends]


def measure(system: Trained, data: Sequence[dict], packets: list[int | None], textgrids: dict[str, Path] | None = None) -> dict:
    """WER, delays and time to compute for each size of packets.

    Arguments
    ---------
    system : Trained
    data : sequence of dict
        Utterances with `id`, `sig` and `words`; best those of like length together.
    packets : list of (int or None)
        Samples, see `listen`.
    textgrids : dict or None
        From utterance id to TextGrid, all of them; None: words end where CTC says.

    Returns
    -------
    dict
        The part of the result that is not about where it comes from.
    """
    references, ends, places, heard = {}, {}, {}, 0
    said = [{} for _ in packets]
    for first in tqdm(range(0, len(data), STREAMS), desc="streaming", unit="batch", disable=None, leave=False):
        signals = {}
        for place in range(first, min(first + STREAMS, len(data))):
            utterance = data[place]
            if found := word_ends(system, utterance, textgrids):
                key = utterance["id"]
                references[key], ends[key], places[key] = utterance["words"].split(), found, place
                signals[key] = utterance["sig"]
                heard += len(utterance["sig"])
        for packet, words in zip(packets, said):
            words.update(zip(signals, listen(system, list(signals.values()), packet)[0]))
    if not places:
        raise UserError("no utterance has an alignment that fits its transcript: there is no delay to measure")
    some = spread(list(places), max(1, round(len(places) * SPEED_SECONDS * SAMPLE_RATE / heard)))
    speeds = speed(system, [data[places[key]]["sig"] for key in some], packets)
    alone = [words != said_too[key] for of, said_too in zip(speeds, said) for key, words in zip(some, of.pop("words"))]
    return {
        "utterances": len(places),
        "left_out": len(data) - len(places),
        "hops": [describe(*of, references, ends) for of in zip(packets, said, speeds)],
        "alone": {"compared": len(alone), "different": sum(alone)},  # utterances whose words or times are others than in a batch
    }


def describe(packet: int | None, said: dict, speed: dict, references: dict, ends: dict) -> dict:
    """The entry of the result for one length of packets: WER, delays, time to compute."""
    found = [pair for key in references for pair in delays(references[key], ends[key], said[key])]
    texts = {key: [word.text for word in words] for key, words in said.items()}
    return {
        "hop_ms": packet and 1000 * packet / SAMPLE_RATE,
        "wer": score(references, texts)[0].as_dict(),
        "words": sum(map(len, references.values())),
        "correct": len(found),
        **{f"{kind}_ms": distribution([pair[i] for pair in found]) for i, kind in enumerate(KINDS)},
        **speed,
    }


def table(result: dict) -> str:
    """The delays in ms of audio, and the time to compute in ms, as text."""

    def row(hop, kind):
        delay, compute = hop[f"{kind}_ms"], hop["compute_ms"]
        return {
            "hop (ms)": "utterance" if hop["hop_ms"] is None else f"{hop['hop_ms']:g}",
            "WER %": hop["wer"]["wer"],
            "correct words": f"{hop['correct']} ({100 * hop['correct'] / hop['words']:.1f} %)",
            "delay until": kind,
            **{name: delay[name] if delay[name] is None else round(delay[name]) for name in ("median", "p90", "p99", "mean")},
            "real-time factor": f"{hop['real_time_factor']:.4f}",
            "compute median": compute["median"],
            "compute p99": compute["p99"],
        }

    return text_table.table([row(hop, kind) for hop in result["hops"] for kind in KINDS])


def packets_of(system: Trained, hops_ms: list[float] | None) -> list[int | None]:
    """The lengths of the packets in samples; [None] for a system that does not stream."""
    if not system.streams:
        if hops_ms:
            raise UserError("this attention has no streaming form: leave --hops out, its text comes with the last sample")
        return [None]
    samples = [ms * SAMPLE_RATE / 1000 for ms in hops_ms or dict.fromkeys((system.model.frame_ms, *HOPS_MS))]
    if not all(1 <= number < 2**31 and number.is_integer() for number in samples):
        raise UserError(f"--hops {' '.join(f'{ms:g}' for ms in hops_ms)} must be ms above 0 that are whole samples of 1/16 ms")
    return [int(number) for number in samples]


def run(options: Namespace) -> dict:
    """The whole result for the options of the command line."""
    folder = Path(options.experiment)
    system = loading.load(folder)
    packets = packets_of(system, options.hops)
    textgrids = find_textgrids(options.alignments) if options.alignments else None
    manifest, data = load_split(folder, system.config, options.split, options.data_folder)
    ids = [key for key in data.data_ids if textgrids is None or key in textgrids]
    without = len(data) - len(ids)
    ids = set(spread(ids, len(ids) if options.utterances is None else options.utterances))
    result = measure(system, data.filtered_sorted(key_test={"id": ids.__contains__}), packets, textgrids)
    result["left_out"] += without
    result = {"word_ends": "TextGrid" if textgrids else "CTC", **result}
    return origin.described(result, "results.latency.delay", options, system, manifest)


def command(arguments: Sequence[str]) -> None:
    """Print the delays and write them."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("experiment", metavar="FOLDER", help="of a trained experiment")
    parser.add_argument("--data_folder", help="a LibriSpeech tree; default: that of the experiment")
    parser.add_argument("--split", help="default: the first test split of the experiment")
    parser.add_argument("--alignments", metavar="FOLDER", help="with <utterance id>.TextGrid at any depth, tier words")
    parser.add_argument("--hops", nargs="+", type=float, metavar="MS", help="default: one frame, 160, 320, 1000")
    parser.add_argument("--utterances", type=int, metavar="N", help="only so many, spread over the split by duration")
    parser.add_argument(
        "--output", type=files.to_write, metavar="JSON", help="default: results/latency/delays/<name of the folder>.json"
    )
    options = parser.parse_args(arguments)
    if options.utterances is not None and options.utterances < 1:
        raise UserError(f"--utterances {options.utterances} must be 1 or more")
    result = run(options)
    output = options.output or RESULTS / f"{result['experiment']}.json"
    RESULTS.mkdir(exist_ok=True)
    files.write_json(output, result)
    print(f"{result['experiment']}, {result['split']}: {origin.heard(result)}, ends of words by {result['word_ends']}")
    print(f"{result['utterances']} utterances; without an alignment that fits: {result['left_out']}")
    print("{different} of {compared} utterances come otherwise alone than in a batch\n".format(**result["alone"]))
    print(f"{table(result)}\n\n{output}")


main = partial(exit_code, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
