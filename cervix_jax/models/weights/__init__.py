"""Strict readers of pretrained weights."""
