"""Checkpoints to probabilities. Needs neither Grain nor TFDS."""
