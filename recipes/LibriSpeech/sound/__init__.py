"""What counts as a sound, and how it is read: the one definition that preparation and transcription share."""
