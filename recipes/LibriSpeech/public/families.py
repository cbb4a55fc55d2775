"""What each kind of public encoder is here: the keys that its config.json decides, and which of its tensors are which of ours.

A kind is one entry of FAMILIES. Nothing else in this project knows them by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Names = Mapping[str, Sequence[str]]
"""From a pattern of names of tensors here to the names there; of several, the tensors laid end to end."""
Config = Mapping[str, Any]
"""What a JSON file of a public encoder says."""


@dataclass(frozen=True)
class Family:
    """A `model_type` of config.json.

    Arguments
    ---------
    keys : str
        YAML of the keys that it decides; a word in braces stands for an entry of config.json, or for what `follows`.
    names : dict
        See `Names`.
    only : dict
        From entries of config.json to the values that they may have; what is computed otherwise, nobody has written here. An
        entry that is missing has the first of them.
    otherwise : dict
        Values of other entries, where they are missing.
    follows : callable
        Takes config.json and preprocessor_config.json; more entries for `keys`.
    zeros : str
        Pattern of tensors that are not there, and stand for zeros.
    """

    keys: str
    names: Names
    only: Mapping[str, Sequence[Any]]
    otherwise: Config = field(default_factory=dict)
    follows: Callable[[Config, Config], dict[str, Any]] = lambda config, preprocessor: {}
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
    only={"activation_function": ["gelu"]},
    otherwise={"num_mel_bins": 80, "max_source_positions": 1500},
    zeros=r".*\.k_proj\.bias",
)


def _follows(config: Config, preprocessor: Config) -> dict[str, Any]:
    """What the convolutions and the order of norms of wav2vec 2.0 and its kin are called here."""
    post, widths = not config["do_stable_layer_norm"], config["conv_dim"]
    return {
        "block": "PostNormTransformerBlock" if post else "TransformerBlock",
        "post": post,
        "pre": not post,
        "channels": widths[0] if isinstance(widths, list) and widths == widths[:1] * 7 else widths,
        "normalize": preprocessor.get("do_normalize", config["feat_extract_norm"] == "layer"),
    }


WAV2VEC2 = Family(
    keys="""\
dim: {hidden_size}
ffn_dim: {intermediate_size}
num_layers: {num_hidden_layers}
num_heads: {num_attention_heads}
block: !name:speech_attention.blocks.{block} {{}}
norm: {pre}
positions: none
position: !name:speech_attention.position.ConvolutionalPosition
    kernel: {num_conv_pos_embeddings}
    groups: {num_conv_pos_embedding_groups}
    norm: {post}
    lookahead: !ref <position_lookahead>
front_end: !new:speech_attention.front_end.ConvolutionalFrontEnd
    dim: !ref <dim>
    channels: {channels}
    norm: {feat_extract_norm}
    bias: {conv_bias}
    normalize: {normalize}
    form: !ref <form>
    pool: !ref <pool>
""",
    names={
        r"front_end\.convolutions\.(\d+)\.(weight|bias)": [r"feature_extractor.conv_layers.\1.conv.\2"],
        r"front_end\.norms\.(\d+)\.(weight|bias)": [r"feature_extractor.conv_layers.\1.layer_norm.\2"],
        r"front_end\.norm\.(weight|bias)": [r"feature_projection.layer_norm.\1"],
        r"front_end\.linear\.(weight|bias)": [r"feature_projection.projection.\1"],
        r"encoder\.position\.(weight|bias)\.0": [r"encoder.pos_conv_embed.conv.\1"],
        r"encoder\.(?:position\.)?norm\.(weight|bias)": [r"encoder.layer_norm.\1"],
        **_blocks("attention", "layer_norm", "feed_forward.intermediate_dense", "feed_forward.output_dense"),
    },
    only={
        "feat_extract_norm": ["group", "layer"],
        "do_stable_layer_norm": [False, True],
        "conv_bias": [False, True],
        "conv_kernel": [[10, 3, 3, 3, 3, 2, 2]],
        "conv_stride": [[5, 2, 2, 2, 2, 2, 2]],
        "hidden_act": ["gelu"],
        "feat_extract_activation": ["gelu"],
        "layer_norm_eps": [1e-5],
        "feat_proj_layer_norm": [True],
        "conv_pos_batch_norm": [False],
        "add_adapter": [False],
        "adapter_attn_dim": [None],
    },
    otherwise={"conv_dim": [512] * 7, "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16},
    follows=_follows,
)

WAVLM = replace(
    WAV2VEC2,
    keys=WAV2VEC2.keys.replace("positions: none", "positions: gated"),
    names={
        **WAV2VEC2.names,
        r"encoder\.blocks\.(\d+)\.attention\.gate\.(weight|bias)": [r"encoder.layers.\1.attention.gru_rel_pos_linear.\2"],
        r"encoder\.blocks\.(\d+)\.attention\.strength": [r"encoder.layers.\1.attention.gru_rel_pos_const"],
        r"encoder\.blocks\.\d+\.attention\.buckets\.weight": ["encoder.layers.0.attention.rel_attn_embed.weight"],
    },
    only={**WAV2VEC2.only, "num_buckets": [320], "max_bucket_distance": [800]},
)

DATA2VEC_HAS = {"feat_extract_norm": "layer", "do_stable_layer_norm": False}
"""What data2vec always has, whatever its config.json, which nobody asks, says of it."""
DATA2VEC = replace(  # convolutions with a norm over channels; positions from several of them
    WAV2VEC2,
    keys=WAV2VEC2.keys.replace(
        "kernel: {num_conv_pos_embeddings}",
        "kernel: {conv_pos_kernel_size}\n    layers: {num_conv_pos_embeddings}\n    bare: True",
    ),
    names={
        r"encoder\.position\.(weight|bias)\.(\d+)": [r"encoder.pos_conv_embed.layers.\2.conv.\1"],
        **{here: there for here, there in WAV2VEC2.names.items() if not here.endswith(r"\.0")},
    },
    only={entry: some for entry, some in WAV2VEC2.only.items() if entry not in DATA2VEC_HAS},
    otherwise={**WAV2VEC2.otherwise, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19},
    follows=lambda config, preprocessor: {**DATA2VEC_HAS, **_follows({**config, **DATA2VEC_HAS}, preprocessor)},
)

FAMILIES = {"wav2vec2": WAV2VEC2, "hubert": WAV2VEC2, "wavlm": WAVLM, "data2vec-audio": DATA2VEC, "whisper": WHISPER}
