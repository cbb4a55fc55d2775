"""Time and memory against length, and at the size of the papers."""
