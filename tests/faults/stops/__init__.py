"""Kills, full disks, and processes that fail. A package, so that its modules may have the names of other tests."""
