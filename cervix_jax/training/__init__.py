"""Training: augmentation, losses, optimizer, the jitted step, checkpoints and the loop; and batched evaluation."""
