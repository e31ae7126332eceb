"""Errors that a user can mend, and the states that a later run mends by itself."""


class ColdstartError(Exception):
    """A fault the user can mend.

    The message is one line that names the value, the place and the next step. The command line prints it and exits
    with 1; the Python API raises it.
    """


class NotFitted(ColdstartError):  # noqa: N818  (a state that a run mends by itself)
    """A stage needs an artifact that an earlier stage has not fitted yet."""


class NothingToLearn(NotFitted):
    """A fit has too little training data so far; runs go on without its stage until there is enough."""
