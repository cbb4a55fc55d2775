"""The attentions, one file each. YAML names them: `attention: !name:speech_attention.attention.LLSA`."""

from .aa import AA
from .base import Attention, Mixer
from .llsa import LLSA
from .maa import MAA
from .sa import SA
from .summary_mixing import SummaryMixing

__all__ = ["AA", "Attention", "LLSA", "MAA", "Mixer", "SA", "SummaryMixing"]
