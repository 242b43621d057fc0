"""What a training step will need on accelerators that are not there: memory, arithmetic, communication, time."""
