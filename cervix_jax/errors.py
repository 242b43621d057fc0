"""Errors that a user can act on: programs print their message alone, without a traceback."""


class UserError(Exception):
    """Something given is missing or does not fit; the message says what, and what to do."""


class Interrupted(Exception):  # noqa: N818 - no error
    """A program was asked to stop, and all that it did is saved."""
