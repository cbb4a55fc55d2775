# The commands of a contributor. Each uses the tools of the active environment: pip install -e '.[test]' brings them.
.PHONY: help check fast test faults pages
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile

check:  ## lint, format and types
	python -m ruff check . && python -m ruff format --check . && python -m mypy

fast:  ## the tests that take less than two minutes together
	python -m pytest -q -m "not slow and not campaign"

test:  ## all tests but for the campaign of `make faults`
	python -m pytest -q

faults:  ## every bad input, damaged file and kill of tests/faults
	python -m pytest -q -m "" tests/faults

pages:  ## the tables and figures of README.md and results/, anew from the JSON files
	python -m results.pages
