"""What the pages of results share: figures and timing."""
