"""Errors that a user can fix: programs print their message in one line, without a traceback."""


class UserError(Exception):
    """An input is missing or does not fit; the message says which, and what to do.

    Attributes:
      advice: more than a line of help, which programs print before the message.
    """

    def __init__(self, message: str = "", advice: str = ""):
        super().__init__(message)
        self.advice = advice


class Interrupted(Exception):  # noqa: N818 - not an error
    """A program was asked to stop, and has saved its work."""
