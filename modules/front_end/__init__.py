"""From waveform to frames: filterbanks, learnt convolutions, and the front ends of public encoders."""

from .base import SAMPLE_RATE, FrontEnd
from .convolutional import ConvolutionalFrontEnd
from .fbank import FbankFrontEnd
from .waveform import WaveformFrontEnd
from .whisper import WhisperFrontEnd

__all__ = ["SAMPLE_RATE", "ConvolutionalFrontEnd", "FbankFrontEnd", "FrontEnd", "WaveformFrontEnd", "WhisperFrontEnd"]
