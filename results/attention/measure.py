"""What a trained encoder attends to, and what its layers know of phones: numbers and figures of one experiment.

    python -m results.attention.measure results/runs/llsa-mini-embedded-seed1
    python -m results.attention.measure results/runs/mine --split dev-clean --alignments /path/to/TextGrids --utterances 500

Writes analysis.json and its figures to results/attention/<name of the folder>/. They say how diagonal the attention maps are,
how alike the maps of each two layers are (alike ones could be shared), and show the maps of one utterance of about 3 s. With
TextGrids they also say which phones attend to which, and how well a linear layer tells phones from each layer's output.

All maps have the same number of frames, `--frames`, by default the median of the utterances. Longer utterances are cut, and
shorter ones are left out.
"""

import math
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median_high

import torch
from speech_attention.front_end import SAMPLE_RATE
from speech_attention.model import SpeechEncoder
from tqdm import tqdm

from recipes import files, text_table
from recipes.command_line import Parser, UserError, exit_code
from recipes.LibriSpeech.data.alignments import find_textgrids, read_tier
from recipes.LibriSpeech.data.dataset import load_split, spread
from recipes.LibriSpeech.inference import loading
from results.attention import figures, map_statistics
from results.attention.phones import frame_phones, inventory
from results.attention.probing import measure_probe
from results.common import origin

SHOWN_SECONDS = 3.0  # about the length of the utterance whose maps are drawn
RESULTS = Path(__file__).parent


def rounded(x: torch.Tensor | list | float, digits: int = 4) -> list | float | None:
    """A tensor as nested lists for JSON, with None for NaN."""
    if isinstance(x, torch.Tensor):
        x = x.tolist()
    if isinstance(x, list):
        return [rounded(entry, digits) for entry in x]
    return None if math.isnan(x) else round(x, digits)


def progress(items, what):
    return tqdm(items, desc=what, unit="utterance", disable=None, leave=False)


def measure_maps(
    model: SpeechEncoder, data: Sequence[dict], places: list[int], frames: int, phones: dict[str, list[str | None]] | None = None
) -> dict:
    """Diagonality, overlap of layers and attention between phones, summed up utterance by utterance.

    Arguments
    ---------
    model : SpeechEncoder
    data : sequence of dict
        Utterances with `id` and `sig`.
    places : list of int
        Which of them have enough frames.
    frames : int
        To how many frames they are cut.
    phones : dict or None
        From utterance id to the phone of each frame.

    Returns
    -------
    dict
        The part of the result that is about maps.
    """
    names = inventory(set().union(*phones.values())) if phones else []
    numbers = {name: number for number, name in enumerate(names)}
    profile, overlap, sums = 0, 0, (0, 0, 0)
    for place in progress(places, "maps"):
        utterance = data[place]
        maps = map_statistics.attention_maps(model, utterance["sig"][: frames * model.front_end.hop])
        visible = map_statistics.seen(maps)
        profile, overlap = (
            profile + map_statistics.distance_profile(maps.double()),
            overlap + map_statistics.overlaps(maps).double(),
        )
        if phones:
            said = torch.tensor([numbers.get(phone, -1) for phone in phones[utterance["id"]][:frames]])
            sums = [a + b for a, b in zip(sums, map_statistics.phone_attention(maps.mean(dim=1), visible, said, len(names)))]
    profile, overlap = profile / len(places), overlap / len(places)
    window, even = (  # all utterances have the same number of frames, so that their frames see the same ones
        map_statistics.distance_profile(map_statistics.uniform(which).double()) for which in (visible, torch.ones_like(visible))
    )
    reach = int(window.nonzero().max())
    distances = torch.linspace(0, reach, min(reach, 50) + 1).round().long()
    result = {
        "frames": frames,
        "utterances": len(places),
        "diagonality": {
            "heads": rounded(map_statistics.diagonality(profile)),
            "uniform": rounded(map_statistics.diagonality(even)),
            "window": rounded(map_statistics.diagonality(window)),
            "distances": distances.tolist(),
            "cumulative": rounded(profile.cumsum(dim=-1)[..., distances]),
            "cumulative_uniform": rounded(even.cumsum(dim=-1)[distances]),
            "cumulative_window": rounded(window.cumsum(dim=-1)[distances]),
        },
        "similarity": [[round(map_statistics.matched(pair), 4) for pair in row] for row in overlap],
    }
    if phones:
        result["phones"] = {"names": names, "lift": rounded(map_statistics.lift(*sums), 3), "pairs": sums[-1].long().tolist()}
    return result


def run(options: Namespace) -> tuple[dict, tuple | None]:
    """The whole result for the options of the command line, and what maps.png needs."""
    folder = Path(options.experiment)
    system = loading.load(folder)
    model, textgrids = system.model, find_textgrids(options.alignments) if options.alignments else None
    mapped = map_statistics.has_maps(model)
    if not mapped and not textgrids:
        kind = type(model.encoder.blocks[0].attention).__name__
        raise UserError(f"{kind} makes no attention maps: give --alignments, to probe its layers at least")
    manifest, data = load_split(folder, system.config, options.split, options.data_folder)
    ids = [key for key in data.data_ids if textgrids is None or key in textgrids]
    if not ids:
        raise UserError(f"no TextGrid in {options.alignments} is named like an utterance of {manifest.split}")
    ids = set(spread(ids, options.utterances or len(ids)))
    data = data.filtered_sorted(key_test={"id": ids.__contains__}, sort_key="duration")
    hop, window = model.front_end.hop, model.front_end.window
    lengths = [-(-round(data.data[key]["duration"] * SAMPLE_RATE) // hop) for key in data.data_ids]
    phones = textgrids and {
        key: frame_phones(read_tier(textgrids[key], "phones", length * hop), length, hop, window)
        for key, length in zip(progress(data.data_ids, "TextGrids"), lengths)
    }
    result = {
        "attention": type(model.encoder.blocks[0].attention).__name__,
        "frame_ms": model.frame_ms,
        "layers": len(model.encoder.blocks),
        "utterances": len(data),
    }
    shown = None
    if mapped:
        frames = options.frames or median_high(lengths)
        places = [place for place, length in enumerate(lengths) if length >= frames]
        if not places or frames < 2:
            raise UserError(f"--frames {frames}: the longest utterance has {lengths[-1]}, and 2 are the least")
        result["maps"] = measure_maps(model, data, places, frames, phones)
        shown = data[min(range(len(data)), key=lambda place: abs(lengths[place] * hop / SAMPLE_RATE - SHOWN_SECONDS))]
        result["maps"]["shown"] = shown["id"]
    if phones and (found := measure_probe(system, data, phones)):
        result["probe"] = found
    if shown:
        maps = map_statistics.attention_maps(model, shown["sig"])
        tiers = [read_tier(textgrids[shown["id"]], tier) for tier in ("words", "phones")] if textgrids else ([], [])
        shown = maps, *([(i.label, i.start / hop, i.end / hop) for i in tier] for tier in tiers)
    return origin.described(result, "results.attention.measure", options, system, manifest), shown


def table(result: dict) -> str:
    """A row for each layer, as text."""
    maps, probe = result.get("maps"), result.get("probe")
    rows = []
    for layer in range(result["layers"]):
        row = {"layer": str(layer + 1)}
        if maps:
            heads = maps["diagonality"]["heads"][layer]
            row |= {"diagonality of the heads": " ".join(f"{head:.3f}" for head in heads)}
            row |= {"overlap with layer": " ".join(f"{overlap:.2f}" for overlap in maps["similarity"][layer])}
        if probe:
            row |= {"phones %": probe["trained"][layer], "untrained %": probe["untrained"][layer]}
        rows.append(row)
    return text_table.table(rows)


def remarks(result: dict, textgrids: str | None) -> Iterator[str]:
    """Lines that say what the table does not."""
    maps, probe = result.get("maps"), result.get("probe")
    yield f"{result['experiment']}, {result['split']}: {origin.heard(result)}; {result['utterances']} utterances"
    if maps:
        diagonality = maps["diagonality"]
        yield f"maps of {maps['utterances']} utterances of {maps['frames']} frames or more, cut to that"
        yield f"diagonality of a uniform map {diagonality['uniform']:.3f}, uniform over the window {diagonality['window']:.3f}"
    else:
        yield f"{result['attention']} makes no attention maps (it is uniform over what it sees): the probe alone is drawn"
    if probe:
        frames, context = probe["frames"], probe["filterbank_context_ms"]
        yield f"probe: {frames['train']} frames to train, {frames['test']} of other speakers to test"
        yield f"filterbanks with {context[0]:g} ms before and {context[1]:g} ms after the frame: {probe['filterbanks']:.2f} %"
        yield f"most frequent phone: {probe['most_frequent']:.2f} %"
        shifted = zip(probe["shifted"]["shifts"], probe["shifted"]["layer_1"])
        yield "layer 1, labels shifted by frames: " + ", ".join(f"{shift:+d} {value:.2f}" for shift, value in shifted)
    elif textgrids:
        yield "the phones are those of one speaker: the probe is left out, as it is trained and tested on different ones"
    else:
        yield "no --alignments: phoneme relationships and the probe are left out"


def command(arguments: Sequence[str]) -> None:
    """Print the numbers, write and draw them."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("experiment", metavar="FOLDER", help="of a trained experiment")
    parser.add_argument("--data_folder", help="a LibriSpeech tree; default: that of the experiment")
    parser.add_argument("--split", help="default: the first test split of the experiment")
    parser.add_argument("--alignments", metavar="FOLDER", help="with <utterance id>.TextGrid, tiers words and phones")
    parser.add_argument("--utterances", type=int, metavar="N", help="only so many, spread over the split by duration")
    parser.add_argument("--frames", type=int, metavar="T", help="of the maps; default: the median of the utterances")
    parser.add_argument(
        "--output", type=files.folder_to_write, metavar="FOLDER", help="default: results/attention/<name of the folder>"
    )
    options = parser.parse_args(arguments)
    for name in ("utterances", "frames"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)} must be 1 or more")
    result, shown = run(options)
    output = options.output or RESULTS / result["experiment"]
    output.mkdir(exist_ok=True)
    files.write_json(output / "analysis.json", result)
    drawn = figures.draw(result, shown, output)
    print("\n".join(remarks(result, options.alignments)))
    print(f"\n{table(result)}\n\n{output}: analysis.json, {', '.join(drawn)}")


main = partial(exit_code, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
