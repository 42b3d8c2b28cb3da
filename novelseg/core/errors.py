"""The exception for errors that a user can fix."""


class InputError(Exception):
    """Faulty input, described in one sentence: the file, key or number, what was expected, and what to do.

    The command line prints the sentence and exits with code 2; it writes no output.
    """
