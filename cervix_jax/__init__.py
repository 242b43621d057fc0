"""Tells the three types of the cervix's transformation zone from a photograph, in JAX."""
