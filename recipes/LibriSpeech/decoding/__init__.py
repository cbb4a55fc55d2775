"""From CTC outputs to words and word error rates."""
