"""Folders of photographs to batches: corrections, feature cache, TFDS builder, splits, cleaning and Grain pipeline.

Nothing here initialises a JAX backend, so that worker processes start fast and never open an accelerator.
"""
