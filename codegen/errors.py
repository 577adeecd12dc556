"""The one exception that means: the user can fix this."""


class UserError(Exception):
    """A mistake in the input. Its text is one line: place, what is wrong, the way out."""
