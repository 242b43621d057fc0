"""Networks trained on ImageNet, cut at any layer."""
