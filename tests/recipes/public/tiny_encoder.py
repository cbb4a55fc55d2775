"""How `tiny/` was made, with transformers, which its users don't need: `python -m tests.recipes.public.tiny_encoder`.

A wav2vec 2.0 of random weights in HuggingFace's files, and in expected.safetensors what it makes of half a second of noise.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "tiny"
SHAPE = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
HEAD = {"num_codevectors_per_group": 2, "codevector_dim": 4, "proj_codevector_dim": 4}


def shake(model):
    """Move biases and norms away from 0 and 1; the model."""
    for parameter in model.parameters():
        if parameter.dim() == 1 and parameter.numel() > 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


if __name__ == "__main__":
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining

    torch.manual_seed(0)
    model = shake(Wav2Vec2ForPreTraining(Wav2Vec2Config(**SHAPE, **HEAD)))
    model.save_pretrained(FOLDER)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(FOLDER)
    samples = 0.1 * torch.randn(1, 8000)
    with torch.no_grad():
        expected = model.wav2vec2(torch.nn.functional.pad(samples, (80, 0))).last_hidden_state
    save_file({"samples": samples, "expected": expected}, FOLDER / "expected.safetensors")
