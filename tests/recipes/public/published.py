"""Encoders of transformers with random weights, and this project's models with the same weights.

transformers is imported where it is used: it takes seconds, and a fast run needs it nowhere.
"""

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.public import load
from tests.recipes.public.tiny_encoder import shake
from tests.recipes.tiny import ROOT

LARGE = {
    "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096,
    "do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True,
}  # fmt: skip
WHISPER = {
    "d_model": 512, "encoder_layers": 2, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "max_source_positions": 13,
    "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "vocab_size": 8, "max_target_positions": 8,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3,
}  # fmt: skip


def of_kind(kind, **options):
    """A function that makes a model of transformers, `kind` followed by Model."""

    def make():
        import transformers

        config = getattr(transformers, f"{kind}Config")(**options)
        return getattr(transformers, f"{kind}Model")(config)

    return make


def wav2vec2(kind="Wav2Vec2", **options):
    """A function that makes a model of wav2vec 2.0's kin, with two layers."""
    return of_kind(kind, **{"num_hidden_layers": 2, **options})


FAMILIES = {
    "wav2vec2-base": wav2vec2(),
    "wav2vec2-large": wav2vec2(**LARGE),
    "hubert-base": wav2vec2("Hubert"),
    "hubert-large": wav2vec2("Hubert", **LARGE),
    "wavlm-base": wav2vec2("WavLM"),
    "wavlm-large": wav2vec2("WavLM", **LARGE),
    "data2vec-audio": wav2vec2("Data2VecAudio"),
    "whisper": of_kind("Whisper", **WHISPER),
}
"""Each kind, with two layers of true widths."""


NARROW = {
    "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7,
    "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
NARROW_WHISPER = {"d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
TINY_FAMILIES = {
    "wav2vec2": wav2vec2(**NARROW),
    "hubert": wav2vec2("Hubert", **{**LARGE, **NARROW}),
    "wavlm": wav2vec2("WavLM", **NARROW),
    "data2vec-audio": wav2vec2("Data2VecAudio", **NARROW, do_stable_layer_norm=True),  # which it does not read
    "whisper": of_kind("Whisper", **{**WHISPER, **NARROW_WHISPER}),
}


def made(family, folder):
    """A model of transformers with random weights, and what it saves in `folder`."""
    torch.manual_seed(0)
    model = shake(family())
    for name, parameter in model.named_parameters():  # which begin with one value
        if "gru_rel_pos_const" in name:
            parameter.data += torch.randn_like(parameter)
    model.config.to_json_file(folder / "config.json")
    save_file(model.state_dict(), folder / "model.safetensors")  # as save_pretrained does, which takes longer
    return model


def ours(folder, dtype=torch.float32, yaml="aa", **keys):
    """The model of an experiment that starts from `folder`."""
    hparams, _ = experiment.load(ROOT / "hparams" / f"{yaml}.yaml", {"start": str(folder), **keys})
    model = hparams["model"].to(dtype).eval()
    load.load(model, str(folder))
    return model


@torch.no_grad()
def frames(model, samples, lengths):
    """What the encoder of one of our models makes of a batch, without the head: for each row its frames."""
    features, lengths = model.front_end.features(samples, lengths)
    y, lengths = model.encoder(model.front_end.project(features), lengths)
    return [row[:length] for row, length in zip(y, lengths)]


@torch.no_grad()
def theirs(model, ours, samples):
    """What a model of transformers makes of an utterance, (samples,), as ours hears it: with 5 ms of silence before it, and
    silence up to the end of the last hop; Whisper's model takes our features."""
    if hasattr(model, "decoder"):
        features, _ = ours.front_end.features(samples[None], torch.tensor([len(samples)]))
        return model.encoder(features[:, 2:-1].mT).last_hidden_state[0]  # without the zeros around the convolution
    if ours.front_end.normalize:
        samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
    return model(F.pad(samples[None], (80, -len(samples) % 320))).last_hidden_state[0]
