"""Shared by the programs: flags, errors as one line, the result as JSON."""
