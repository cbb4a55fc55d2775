"""Damaged runs, and what may go on in the folder of one. A package, so that its modules may have the names of other tests."""
