"""What the pages of results share: figures, Markdown, timing, and where a measurement comes from."""
