"""The one error a user sees."""


class ColdstartError(Exception):
    """A fault the user can mend.

    The message is one line that names the value, the place and the next step. The command line prints it and exits
    with 1; the Python API raises it.
    """
