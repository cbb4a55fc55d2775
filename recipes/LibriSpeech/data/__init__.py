"""From a LibriSpeech tree, or a synthetic corpus, to data sets and batches."""
