"""LibriSpeech: data, training, decoding and inference of one experiment."""
