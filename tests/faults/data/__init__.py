"""Bad and odd inputs of all commands. A package, so that its modules may have the names of other tests."""
