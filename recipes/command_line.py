"""The one exception for what a user can mend: a command prints it as a single line and exits with code 2."""

import argparse


class UserError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do about it."""


class Parser(argparse.ArgumentParser):
    """The options of a command; a wrong one is a `UserError` like any other bad input. Names are not abbreviated."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, allow_abbrev=False, **options)

    def error(self, message):
        raise UserError(message)
