"""The one exception for what a user can mend: `train.py` prints it as a single line and exits with code 2."""


class UserError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do about it."""
