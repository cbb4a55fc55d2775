"""The Brain classes of pre-training and fine-tuning, and their checkpoints."""
