"""Objectives of the pre-training stage, one file each. Each is called with a front end, an encoder and a batch."""

from .base import Stats, perplexity, span_mask, stack_features
from .best_rq import BESTRQ
from .ctc_distillation import CTCDistillation
from .distillation import Distillation
from .wav2vec2 import Wav2Vec2

__all__ = ["BESTRQ", "CTCDistillation", "Distillation", "Stats", "Wav2Vec2", "perplexity", "span_mask", "stack_features"]
