"""A step of an encoder of a public shape, exported to ONNX, says what the model says."""

import onnxruntime
import pytest
import torch
from cases import ATTENTIONS, FAMILIES, TOKENS, noise
from speech_attention.recognizer import Recognizer
from speech_attention.streaming import named_tensors

from recipes.LibriSpeech.inference.step import step_proto

CASES = {  # which take all that is new: an export takes seconds
    "wavlm": ("LLSA-chunk3", 2),
    "whisper": ("SA", 1),
}


@pytest.mark.parametrize("name", CASES)
def test_exported_step(name):
    """Over two streams, of which the second begins two steps later."""
    case, pool = CASES[name]
    model = FAMILIES[name].build(ATTENTIONS[case], pool, depth=1, dtype=torch.float32)
    recognizer = Recognizer(model, TOKENS)
    encoder, size = model.encoder, 320 * pool * model.encoder.layout.chunk
    session = onnxruntime.InferenceSession(step_proto(model, recognizer.start).SerializeToString())
    steps = -(-(encoder.lead + 10 + int(encoder.lookahead)) // encoder.layout.chunk) + 2
    samples, valid = torch.zeros(2, steps * size), torch.zeros(2, steps * encoder.layout.chunk, dtype=torch.bool)
    for row, late in enumerate((0, 2)):
        first = encoder.lead + late * encoder.layout.chunk
        valid[row, first : first + 10] = True
        samples[row, first * 320 * pool :][: 3200 * pool] = noise(3200 * pool, seed=row, dtype=torch.float32)
    names = list(named_tensors(recognizer.start, "state."))
    state = {name: torch.cat([t, t]).numpy() for name, t in named_tensors(recognizer.start, "state.").items()}
    outputs = []
    for samples_now, valid_now in zip(samples.split(size, dim=1), valid.split(encoder.layout.chunk, dim=1)):
        inputs = {"samples": samples_now.numpy(), "valid": valid_now.numpy(), **state}
        taken = {given.name: inputs[given.name] for given in session.get_inputs()}
        log_probs, there, *after = session.run(None, taken)
        outputs.append((torch.from_numpy(log_probs), torch.from_numpy(there)))
        state = dict(zip(names, after))
    y, there = (torch.cat(parts, dim=1) for parts in zip(*outputs))
    for row, late in enumerate((0, 2)):
        first = (encoder.lead + late * encoder.layout.chunk) * 320 * pool
        with torch.no_grad():
            expected, _ = model(samples[row : row + 1, first : first + 3200 * pool], torch.tensor([3200 * pool]))
        assert there[row].sum() == 10 and (y[row, there[row]] - expected[0]).abs().max() < 1e-4
