"""The texts of a test set with every engine that can compute the steps of a stream, beside those of the model itself.

    python -m results.speed.engines results/runs/llsa-mini-embedded-seed1      # writes results/speed/engines/<run>.json

The utterances of the first test set are streams, eight at a time, fed in random pieces, the same for every engine. In float32
rounding alone differs, so that each text must be the same; where one is not, the exit code is 1. With eight bits a weight texts
may differ: those that do are listed, and the word error rates stand side by side.
"""

import argparse
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from recipes import files, text_table
from recipes.command_line import Parser, UserError, exit_code
from recipes.LibriSpeech.data.dataset import load_split
from recipes.LibriSpeech.decoding.wer import score
from recipes.LibriSpeech.inference import engines, loading
from recipes.LibriSpeech.inference.sessions import random_hops, stream_words
from results.common import origin

RESULTS = Path(__file__).with_name("engines")
STREAMS = 8


def measure(system: loading.Trained, data: Any) -> list[dict]:
    """What each engine makes of the utterances of a set.

    Arguments
    ---------
    system : Trained
    data : DynamicItemDataset
        See `data.dataset`.

    Returns
    -------
    list of dict
        `engine`, `int8`, `score`, and `different`: by id, the text of the first engine and that of this one, where they differ.
    """
    references, first, found = {name: row["wrd"].split() for name, row in data.data.items()}, None, []
    for engine, small in engines.VARIANTS:
        words = stream_words(engines.recognizer(system, engine, small), data, random_hops(0), STREAMS)
        first = first or words
        different = {name: [" ".join(first[name]), " ".join(words[name])] for name in sorted(words) if words[name] != first[name]}
        found.append({"engine": engine, "int8": small, "score": score(references, words)[0].as_dict(), "different": different})
    return found


def rows(result: dict) -> list[dict]:
    """The rows of a run in the table of engines."""
    return [
        {
            "run": result["experiment"],
            "engine": f"`{one['engine']}`" + ", int8" * one["int8"],
            "WER %": f"{one['score']['wer']:.2f} [{one['score']['low']:.2f}, {one['score']['high']:.2f}]",
            "texts that differ": f"{len(one['different'])} of {one['score']['utterances']}",
        }
        for one in result["engines"]
    ]


def command(arguments: Sequence[str]) -> int:
    """Print what was found and write it; 0, or 1 if a text differs in float32."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", metavar="FOLDER", help="of a trained experiment")
    parser.add_argument("--data_folder", help="a LibriSpeech tree; default: that of the experiment")
    parser.add_argument("--output", type=files.to_write, metavar="JSON", help="default: results/speed/engines/<run>.json")
    options: Namespace = parser.parse_args(arguments)
    system = loading.load(options.experiment)
    if not system.streams:
        raise UserError(f"{options.experiment}: its attention has no streaming form")
    manifest, data = load_split(options.experiment, system.config, data_folder=options.data_folder)
    result = origin.described({"engines": measure(system, data)}, "results.speed.engines", options, system, manifest)
    RESULTS.mkdir(exist_ok=True)
    output = options.output or RESULTS / f"{result['experiment']}.json"
    files.write_json(output, result)
    print(text_table.table(rows(result)))
    for one in result["engines"]:
        for name, (before, after) in one["different"].items():
            print(f"\n{name}, {one['engine']}{', int8' * one['int8']}\n  {before}\n  {after}")
    print(f"\n{output}")
    return int(any(one["different"] for one in result["engines"] if not one["int8"]))


main = partial(exit_code, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
