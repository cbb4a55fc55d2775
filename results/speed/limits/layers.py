"""What is timed forward and backward: attentions and layers of this project, the same of others, and layers without attention.

The others compute the same function where they can, and else as nearly the same as they let one ask for: the same widths, window,
chunk and kernel. They are optional (`pip install -e '.[peers]'`); torchaudio and SpeechBrain are there anyway.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import torch
from speech_attention.attention import AA, LLSA, SA, SummaryMixing
from speech_attention.blocks import ConformerBlock, TransformerBlock
from speech_attention.encoder import Encoder

from results.speed.variants import Subject

BASE = {"dim": 768, "ffn_dim": 3072, "num_heads": 12}  # wav2vec 2.0 BASE
CONFORMER = {"dim": 256, "ffn_dim": 1024, "num_heads": 4, "kernel_size": 31}  # Conformer-M
EMFORMER = {"dim": 512, "ffn_dim": 2048, "num_heads": 8}
SMALL = {"dim": 128, "ffn_dim": 256, "num_heads": 4}
WINDOW = {"left_context": 64, "lookahead": 8}
CHUNK = {"left_context": 64, "lookahead": 0, "chunk": 16}

PACKAGES = {
    "local-attention": ("local_attention", "peers"),
    "HuggingFace": ("transformers", "peers"),
    "ONNX Runtime": ("onnxruntime", "engines"),
    "ONNX Runtime, int8": ("onnxruntime", "engines"),
}
"""The package that a variant needs, where it is not installed with this project, and the extra that brings it."""


def installed(variant):
    """Whether the package of a variant is there."""
    return variant not in PACKAGES or find_spec(PACKAGES[variant][0]) is not None


class Unmixed:
    """Put before an attention, in the bases of a class: all that it does, but no frame reads another one."""

    def mix(self, q, k, v, *, valid, state=None, final=False, shared=None):
        return q + k + v, valid, None, None  # a sum, so that all three have a gradient


class NoAA(Unmixed, AA):
    """The projections of AA alone."""


class NoLLSA(Unmixed, LLSA):
    """The projections of LLSA alone."""


def noise(*shape):
    return torch.randn(shape, requires_grad=True)


def core(attention, frames, batch, dim, num_heads):
    """`mix` alone: queries, keys and values are given."""
    module = attention(dim=dim, num_heads=num_heads)
    parts = [noise(batch, frames, 1, num_heads, dim // num_heads) for _ in "qkv"]
    valid = torch.ones(batch, frames, 1, dtype=torch.bool)
    return Subject(module, parts, lambda: module.mix(*parts, valid=valid)[0])


def local_attention(frames, batch, dim, num_heads):
    """The window of SA by the package local-attention: blocks as long as the look-ahead make the same window there."""
    from local_attention import LocalAttention

    size = WINDOW["lookahead"]
    options = {"exact_windowsize": True, "autopad": True, "use_rotary_pos_emb": False}
    module = LocalAttention(size, look_backward=WINDOW["left_context"] // size, look_forward=1, **options)
    parts = [noise(batch, frames, num_heads, dim // num_heads) for _ in "qkv"]
    valid = torch.ones(batch, frames, dtype=torch.bool)  # without it, what `autopad` adds would be seen
    return Subject(module, parts, lambda: module(*(part.transpose(1, 2) for part in parts), mask=valid).transpose(1, 2))


def stack(attention, frames, dim, ffn_dim, num_heads, num_layers):
    """An encoder of Transformer blocks."""
    module = Encoder(dim, ffn_dim, num_layers, TransformerBlock, partial(attention, num_heads=num_heads))
    x, lengths = noise(1, frames, dim), torch.tensor([frames])
    return Subject(module, [x], lambda: module(x, lengths)[0])


def block(kind, attention, frames, dim, ffn_dim, num_heads, **options):
    """One Transformer or Conformer block."""
    module = kind(dim, ffn_dim, partial(attention, num_heads=num_heads), **options)
    x, valid, positions = noise(1, frames, dim), torch.ones(1, frames, dtype=torch.bool), torch.arange(frames)[None]
    return Subject(module, [x], lambda: module(x, valid, module.attention.table(positions))[0])


def wav2vec2(frames, dim, ffn_dim, num_heads):
    """HuggingFace's layer for wav2vec 2.0 with its norms first. Positions are no part of it."""
    from transformers import Wav2Vec2Config
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2EncoderLayerStableLayerNorm

    config = Wav2Vec2Config(
        hidden_size=dim, intermediate_size=ffn_dim, num_attention_heads=num_heads, attn_implementation="sdpa",
        hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
    )  # fmt: skip
    module, x = Wav2Vec2EncoderLayerStableLayerNorm(config), noise(1, frames, dim)
    return Subject(module, [x], lambda: module(x))


def speechbrain(attention, frames, dim, ffn_dim, num_heads, kernel_size):
    """SpeechBrain's Conformer layer under the mask of its dynamic chunk training, which the model makes at each step."""
    from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
    from speechbrain.lobes.models.transformer.TransformerASR import make_transformer_src_mask
    from speechbrain.nnet.attention import RelPosEncXL
    from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig

    module = ConformerEncoderLayer(dim, ffn_dim, num_heads, kernel_size, attention_type=attention)
    positions = RelPosEncXL(dim) if attention == "RelPosMHAXL" else lambda x: None
    chunks = DynChunkTrainConfig(CHUNK["chunk"], CHUNK["left_context"] // CHUNK["chunk"])
    x, padding = noise(1, frames, dim), torch.zeros(1, frames, dtype=torch.bool)

    def forward():
        mask = make_transformer_src_mask(x, dynchunktrain_config=chunks)
        return module(x, mask, padding, positions(x), dynchunktrain_config=chunks)[0]

    return Subject(module, [x], forward)


def emformer(frames, dim, ffn_dim, num_heads, num_layers):
    """torchaudio's Emformer without memory. It is given the look-ahead of the last frames, too."""
    module = emformer_module(dim, ffn_dim, num_heads, num_layers)
    x, lengths = noise(1, frames + WINDOW["lookahead"], dim), torch.tensor([frames])
    return Subject(module, [x], lambda: module(x, lengths)[0])


def emformer_module(dim, ffn_dim, num_heads, num_layers):
    from torchaudio.models import Emformer

    sides = {"left_context_length": WINDOW["left_context"], "right_context_length": WINDOW["lookahead"]}
    return Emformer(dim, num_heads, ffn_dim, num_layers, segment_length=8, activation="gelu", max_memory_size=0, **sides)


def llsa(chunk, **options):
    """LLSA with the look-ahead of `WINDOW`."""
    return partial(LLSA, **WINDOW, chunk=chunk, **options)


class Group(NamedTuple):
    """Variants that take turns.

    Arguments
    ---------
    frames : tuple of int
        The lengths at which they are timed.
    shape : dict
        Widths and numbers that all variants share.
    variants : dict
        From a name to what makes its `Subject`, called as `make(frames=.., **shape)`.
    """

    frames: tuple[int, ...]
    shape: dict
    variants: dict[str, Callable[..., Subject]]

    def names(self):
        """The variants whose packages are there."""
        return [name for name in self.variants if installed(name)]


_CORES = {"AA": partial(core, AA), "SA": partial(core, partial(SA, **WINDOW)), "local-attention": local_attention}
_HEADS = {"dim": BASE["dim"], "num_heads": BASE["num_heads"]}
GROUPS = {
    "core": Group((500, 1000, 2000, 4000), {**_HEADS, "batch": 1}, _CORES),
    "core-of-4": Group((250,), {**_HEADS, "batch": 4}, _CORES),
    "stack": Group(
        (400,),
        {**BASE, "num_layers": 12},
        {"AA": partial(stack, AA), **{f"LLSA, chunk {c}": partial(stack, llsa(c)) for c in (1, 8, 16)}},
    ),
    "transformer": Group(
        (500,),
        BASE,
        {
            "AA": partial(block, TransformerBlock, AA),
            "SA": partial(block, TransformerBlock, partial(SA, **WINDOW)),
            "HuggingFace": wav2vec2,
            "no attention": partial(block, TransformerBlock, partial(NoAA, positions="none")),
        },
    ),
    "conformer": Group(
        (256, 512, 1024, 1536),
        CONFORMER,
        {
            "chunk mask": partial(block, ConformerBlock, partial(LLSA, **CHUNK)),
            "SpeechBrain, RoPE": partial(speechbrain, "RoPEMHA"),
            "SpeechBrain, relative": partial(speechbrain, "RelPosMHAXL"),
            "no attention": partial(block, ConformerBlock, partial(NoLLSA, **CHUNK, positions="none")),
        },
    ),
    "emformer": Group(
        (400,), {**EMFORMER, "num_layers": 2}, {"LLSA, chunk 8": partial(stack, llsa(8, positions="none")), "Emformer": emformer}
    ),
}
"""What is timed forward and backward, by name."""

MEMORY = Group(
    (1000, 2000, 3000, 4000),
    {**SMALL, "num_layers": 4},
    {
        "SA": partial(stack, partial(SA, left_context=32, lookahead=4)),
        "SummaryMixing": partial(stack, SummaryMixing),
        "LLSA, chunk 3": partial(stack, partial(LLSA, left_context=32, lookahead=2, chunk=3)),
    },
)
"""What is asked how much memory it takes."""
