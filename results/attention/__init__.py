"""What trained encoders attend to, and what their layers know."""
