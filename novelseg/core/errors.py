"""The one exception for what a user can mend."""


class InputError(Exception):
    """Bad input, told in one sentence: file, key or number; what was expected; what to do.

    The command line prints the sentence and exits with code 2; nothing is written.
    """
