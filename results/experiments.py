"""All experiments of results/, in one list: a name, a YAML of hparams/, and what it changes.

First those of the comparison, at any scale. Their look-ahead is stated in time, so that one list serves scales with other frames
and depths: every row of a group looks ahead by the same time in all, whatever its attention and its number of layers. Then the
runs that pages show beside them, what is measured without training, and what is timed.
"""

import json
from typing import Any, NamedTuple

from speech_attention.attention import AA, SA, SummaryMixing

from recipes.LibriSpeech import experiment, options

LOW_MS, HIGH_MS = 160, 1920  # look-ahead of the papers' LLSA, and of their MAA and SA
CHUNK = 3  # final frames that share a set of revisions in the LLSA of the tables; `chunk` - 1 + look-ahead are 160 ms
SCALES = "cpu", "small", "base"


class Experiment(NamedTuple):
    """A YAML of hparams/ and what is changed in it.

    Arguments
    ---------
    name : str
        Of what is trained, its `name`; the folder of a run is `<name>-<scale>-<data>-seed<seed>`. Else how tables call it.
    yaml : str
        Stem of a file in hparams/.
    title : str
        In the comparison: the attention in words; its look-ahead in frames where layers have their own.
    lookahead_ms : int or None
        In the comparison: look-ahead of the whole stack; None: the utterance.
    changes : dict
        Keys of the YAML and their values; a str is taken as YAML.
    seeds : int
        In the comparison: how many seeds its row should have.
    """

    name: str
    yaml: str
    title: str = ""
    lookahead_ms: int | None = None
    changes: dict = {}
    seeds: int = 1

    def load(self, **more: Any) -> tuple[dict, dict]:
        """Its objects and its configuration, with `more` changed, see `recipes.LibriSpeech.experiment.load`."""
        changes = {**self.changes, **more}
        words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in changes.items()}
        return experiment.load(experiment.HPARAMS / f"{self.yaml}.yaml", options.values(words))


def of_comparison(num_layers: int, frame_ms: int, pretrain: bool = True) -> list[Experiment]:
    """The experiments of the comparison, the ones that matter most first.

    Arguments
    ---------
    num_layers, frame_ms : int
        Of the scale.
    pretrain : bool
        Whether the scale pre-trains; three experiments are there with the other start, too.

    Returns
    -------
    list of Experiment

    Example
    -------
    >>> {one.name: one.changes for one in of_comparison(12, 20)}["llsa-c3"]
    {'attention': {'chunk': 3, 'lookahead': 6}}
    """
    low = LOW_MS // frame_ms  # frames
    high = HIGH_MS // frame_ms // num_layers  # frames a layer

    spread = {"lookaheads": [1] * low + [0] * (num_layers - low)}
    first = {"lookaheads": [low] + [0] * (num_layers - 1)}
    each, spread_words = f"{high} ahead in each layer", f"1 ahead in {low} of {num_layers} layers"

    def band(frames):
        return {"attention": {"lookahead": frames}}

    def llsa(chunk, **more):
        return {"attention": {"chunk": chunk, "lookahead": low + 1 - chunk, **more}}

    def of_sa(epochs):
        return {**llsa(1), "weights": "sa-1920", "any_attention": True, "finetune": {"epochs": epochs}}

    every_fourth = {"owners": list(range(0, num_layers, 4))}

    main = [
        Experiment("aa", "aa", "AA", None, seeds=3),
        Experiment("sa-1920", "sa", f"SA, {each}", HIGH_MS, band(high), seeds=3),
        Experiment(f"llsa-c{CHUNK}", "llsa", f"LLSA, chunk {CHUNK}", LOW_MS, llsa(CHUNK), seeds=3),
        Experiment("sa-160", "sa", f"SA, {spread_words}", LOW_MS, spread, seeds=3),
        Experiment("chunk-mask", "llsa", f"chunk mask, {low + 1} frames", LOW_MS, llsa(low + 1), seeds=3),
        Experiment("causal", "sa", "SA, causal", 0, band(0)),
        Experiment("maa-160", "maa", f"MAA, {spread_words}", LOW_MS, spread),
        Experiment("maa-1920", "maa", f"MAA, {each}", HIGH_MS, band(high)),
        Experiment("summary-whole", "summary_mixing", "SummaryMixing", None, {"attention": {"chunk": None}}),
        Experiment("summary-160", "summary_mixing", f"SummaryMixing, chunk {low + 1}", LOW_MS, {"attention": {"chunk": low + 1}}),
        Experiment("aa-relative", "aa", "AA, relative positions", None, {"attention": {"positions": "relative"}}),
        Experiment("shared-2", "shared_attention", "AA, relative, a map for 2 layers", None),
        Experiment("shared-4", "shared_attention", "AA, relative, a map for 4 layers", None, every_fourth),
        Experiment("sa-160-first", "sa", f"SA, {low} ahead in the first layer", LOW_MS, first),
        Experiment("llsa-ends", "llsa", f"LLSA, revisions 0 and {low}", LOW_MS, llsa(1, revisions=[0, low])),
        Experiment("sa-as-llsa", "llsa", "sa-1920 run as LLSA", LOW_MS, of_sa(epochs=0)),
        Experiment("sa-as-llsa-tuned", "llsa", "sa-1920 trained on as LLSA", LOW_MS, of_sa(epochs=1)),
        *(Experiment(f"llsa-c{c}", "llsa", f"LLSA, chunk {c}", LOW_MS, llsa(c)) for c in (low // 2 + 1, 1) if c != CHUNK),
    ]
    suffix, words, epochs = ("scratch", "not pre-trained", 0) if pretrain else ("pretrained", "pre-trained", 1)
    other_start = [
        one._replace(
            name=f"{one.name}-{suffix}",
            title=f"{one.title}, {words}",
            changes={**one.changes, "pretrain": {"epochs": epochs}},
            seeds=1,
        )
        for one in main
        if one.name in ("aa", "sa-1920", f"llsa-c{CHUNK}")
    ]
    return main + other_start


def at_scale(scale: str) -> list[Experiment]:
    """The experiments of the comparison at a scale of `SCALES`."""
    hparams, _ = Experiment("aa", "aa").load(scale=scale)
    return of_comparison(hparams["num_layers"], round(hparams["model"].frame_ms), bool(hparams["pretrain"]["epochs"]))


FIRST_PAGE = "aa", "sa-1920", "llsa-c3", "maa-160", "chunk-mask", "summary-160"
"""The experiments whose rows README.md shows, at the first scale that is measured."""
OF_THE_EMBEDDED_CORPUS = "aa", "sa", "maa", "llsa", "shared-attention", "summary-mixing"
OTHER_RUNS = (
    experiment.run_name("llsa-chunk3", "mini", "librispeech", 1),
    *(experiment.run_name(name, "mini", "embedded", 1) for name in OF_THE_EMBEDDED_CORPUS),
)
"""Runs beside those of the comparison: their table names each one, measured or not."""
ADAPTED = tuple(
    experiment.run_name(name, scale, "librispeech", 1)
    for scale, names in (("adapt", ("aa", f"llsa-c{CHUNK}")), ("cpu", ("aa-hour", f"llsa-c{CHUNK}-hour")))
    for name in names
)
"""Runs of an hour of one core: begun with a public encoder, and begun with nothing."""
DELAYS = (*OTHER_RUNS, f"{OTHER_RUNS[0]}-train-clean-100")
"""The runs of the table of delays, measured or not."""
FIRST_COMMAND = experiment.run_name("llsa", "mini", "embedded", 1)
"""The run that README.md's first command makes."""


def _by_name(*experiments):
    return {one.name: one for one in experiments}


def _chunk(frames):
    """A chunk of LLSA with as much less look-ahead, so that the worst case stays as it is."""
    return {"attention": f"{{chunk: {frames}, lookahead: !ref <lookahead> - {frames - 1}}}"}


_MA_ET_AL = Experiment("AA", "aa"), Experiment("MAA", "maa"), Experiment("SA", "sa"), Experiment("LLSA", "llsa")

AGAINST_DEPTH = _by_name(
    *_MA_ET_AL,
    Experiment("LLSA, chunk 3, look-ahead 6", "llsa", changes=_chunk(3)),
    Experiment("LLSA, chunk 9, look-ahead 0", "llsa", changes=_chunk(9)),
)
"""What results/latency/depth.py measures, in layers with a look-ahead of 8."""

AT_PAPER_SIZE = _by_name(
    *_MA_ET_AL,
    Experiment("LLSA, chunk 3", "llsa", changes=_chunk(3)),
    Experiment("LLSA, chunk 5", "llsa", changes=_chunk(5)),
    Experiment("SummaryMixing (Conformer)", "summary_mixing"),
    Experiment("shared maps", "shared_attention"),
)
"""What results/speed/paper_size.py times."""


class Variant(NamedTuple):
    """What results/speed/measure.py times: an attention, its options, and how many blocks use one map (1: each makes its own)."""

    kind: type
    options: dict = {}
    share: int = 1


_PLAIN = {"positions": "relative", "role": "owner"}  # scores, softmax and mean one after another, as in Transformer-XL
_RELATIVE = {"positions": "relative"}
_WINDOW = {"left_context": 64, "lookahead": 4}
_FOLLOWER = {"role": "follower"}

BASELINE = "AA"  # what all others are compared with: rotary positions, in a fused kernel
_SHARED = {
    f"AA{words}by {share}, {reuse}": Variant(AA, {**positions, "reuse": reuse}, share)
    for words, positions in ((" ", {}), (" relative ", _RELATIVE))
    for share in (2, 4)
    for reuse in ("map", "queries")
}
_POSITIONS = {BASELINE: Variant(AA), "AA relative": Variant(AA, _RELATIVE), "AA relative, plain": Variant(AA, _PLAIN)}
_SUMMARY = {
    "SummaryMixing": Variant(SummaryMixing),
    "SummaryMixing, matched": Variant(SummaryMixing, {"num_heads": 2}),  # about as many parameters as the baseline
}
VARIANTS = {
    "modules": {
        **_POSITIONS,
        "AA follower, map": Variant(AA, {**_FOLLOWER, "reuse": "map"}),
        "AA follower, queries": Variant(AA, {**_FOLLOWER, "reuse": "queries"}),
        "SA": Variant(SA, _WINDOW),
        "SA follower, map": Variant(SA, {**_WINDOW, **_FOLLOWER}),
        "SummaryMixing": Variant(SummaryMixing),
        "SummaryMixing, chunks of 16": Variant(SummaryMixing, {"chunk": 16}),
        "SummaryMixing, cumulative": Variant(SummaryMixing, {"chunk": 1}),
        "SummaryMixing lite": Variant(SummaryMixing, {"lite": True}),
    },
    "encoder": {**_POSITIONS, **_SHARED, **_SUMMARY},
    "model": {**_POSITIONS, **{name: _SHARED[name] for name in ("AA by 4, map", "AA relative by 4, map")}, **_SUMMARY},
}
LENGTHS = {  # at which each group is timed, in frames of 40 ms: from 5 s on
    "modules": (125, 250, 500, 1024, 2048, 4096, 8192),
    "encoder": (125, 250, 500, 875, 1500),
    "model": (125, 250, 500, 1000, 2000),
}
QUADRATIC = ("AA relative", "AA relative, plain", "AA follower, map")  # modules that hold T x T tensors: not at all lengths
