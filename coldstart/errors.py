"""The one error a user sees, and the one kind of it that others wait for."""


class ColdstartError(Exception):
    """A fault the user can mend.

    The message is one line that names the value, the place and the next step. The command line prints it and exits
    with 1; the Python API raises it.
    """


class NotFitted(ColdstartError):  # noqa: N818  (a state that a run mends by itself)
    """A stage asks for what an earlier stage has not fitted yet."""


class NothingToLearn(NotFitted):
    """What it asks for needs more than there is to learn from so far: a run goes on without the stage until then."""
