"""What each kind of public encoder is here: the keys that its config.json decides, and which of its tensors are which of ours.

A kind is one entry of FAMILIES. Nothing else in this project knows them by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Names = Mapping[str, Sequence[str]]
"""From a pattern of names of tensors here to the names there; of several, the tensors laid end to end."""


@dataclass(frozen=True)
class Family:
    """A `model_type` of config.json.

    Arguments
    ---------
    keys : str
        YAML of the keys that it decides; a word in braces stands for an entry of config.json, a number or True or False.
    names : dict
        See `Names`.
    only : dict
        Entries of config.json that must have this value: what is computed otherwise, nobody has written here. Where one is
        missing it has this value.
    otherwise : dict
        Values of other entries that are missing, as they are in older files.
    zeros : str
        Pattern of tensors that are not there, and stand for zeros.
    """

    keys: str
    names: Names
    only: Mapping[str, Any]
    otherwise: Mapping[str, Any] = field(default_factory=dict)
    zeros: str = ""


def _blocks(attention: str, norm: str, widen: str, narrow: str) -> dict[str, list[str]]:
    """The names of a Transformer's blocks: of its attention and the norm before or after it, and of its feed-forward layers."""
    layer, block = r"encoder.layers.\1.", r"encoder\.blocks\.(\d+)\."
    return {
        rf"{block}attention\.qkv\.(weight|bias)": [rf"{layer}{attention}.{part}_proj.\2" for part in "qkv"],
        rf"{block}attention\.value\.(weight|bias)": [rf"{layer}{attention}.v_proj.\2"],
        rf"{block}attention\.output\.(weight|bias)": [rf"{layer}{attention}.out_proj.\2"],
        rf"{block}norm\.(weight|bias)": [rf"{layer}{norm}.\2"],
        rf"{block}(?:leave|feed_forward\.0)\.(weight|bias)": [rf"{layer}final_layer_norm.\2"],
        rf"{block}feed_forward\.1\.(weight|bias)": [rf"{layer}{widen}.\2"],
        rf"{block}feed_forward\.4\.(weight|bias)": [rf"{layer}{narrow}.\2"],
    }


WHISPER = Family(
    keys="""\
dim: {d_model}
ffn_dim: {encoder_ffn_dim}
num_layers: {encoder_layers}
num_heads: {encoder_attention_heads}
block: !name:speech_attention.blocks.TransformerBlock {{}}
norm: True
positions: none
position: !name:speech_attention.position.Sinusoids
    rows: {max_source_positions}
front_end: !new:speech_attention.front_end.WhisperFrontEnd
    dim: !ref <dim>
    num_mels: {num_mel_bins}
    form: !ref <form>
    pool: !ref <pool>
""",
    names={
        r"front_end\.convolutions\.0\.(weight|bias)": [r"encoder.conv1.\1"],
        r"front_end\.convolutions\.1\.(weight|bias)": [r"encoder.conv2.\1"],
        r"encoder\.position\.table": ["encoder.embed_positions.weight"],
        r"encoder\.norm\.(weight|bias)": [r"encoder.layer_norm.\1"],
        **_blocks("self_attn", "self_attn_layer_norm", "fc1", "fc2"),
    },
    only={"activation_function": "gelu"},
    otherwise={"num_mel_bins": 80, "max_source_positions": 1500},
    zeros=r".*\.k_proj\.bias",
)

FAMILIES = {"whisper": WHISPER}
