"""Files come in pieces of the time asked for, no earlier than they would be spoken."""

import time

import numpy as np
import pytest
import soundfile
import torch

from recipes.LibriSpeech.inference.audio import AudioFile


@pytest.mark.parametrize("rate, hop_ms", [(16000, 40), (44100, 40), (11025, 37), (8000, 0.1), (22050, 333.3), (16000, 5000)])
def test_pieces_of_a_file_end_when_they_should(tmp_path, rate, hop_ms):
    x = np.random.default_rng(0).uniform(-1, 1, size=(rate // 9 + 1, 3)).astype("float32")
    soundfile.write(tmp_path / "a.wav", x, rate, subtype="FLOAT")
    source = AudioFile(tmp_path / "a.wav", hop_ms)
    parts = list(source)
    ends = np.cumsum([len(part) for part in parts])
    assert source.rate == rate
    assert list(ends[:-1]) == [round((i + 1) * hop_ms / 1000 * rate) for i in range(len(ends) - 1)]
    np.testing.assert_allclose(torch.cat(parts).numpy(), x.astype("float64").mean(axis=1), atol=1e-6)


def test_a_file_paced_like_a_microphone(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8820), 44100)
    source, start, heard = AudioFile(tmp_path / "a.wav", 30, realtime=True), time.monotonic(), 0
    for part in source:
        heard += len(part)
        assert time.monotonic() - start >= heard / 44100
    assert heard == 8820 and source.late < 0.2
    source = AudioFile(tmp_path / "a.wav", 30, realtime=True)
    for number, _ in enumerate(source):
        time.sleep(0.15 if number == 2 else 0)
    assert source.late >= 0.11  # the fourth piece was due 0.03 s after the third was given
