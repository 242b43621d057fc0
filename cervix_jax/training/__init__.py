"""Logits to better weights: augmentation, losses, optimizer, the jitted step, checkpoints and the training loop."""
