"""Photographs to batches: reading, the TFDS builder, selection and the Grain pipeline.

Nothing here initialises a JAX backend, so that worker processes start fast and never open an accelerator.
"""
