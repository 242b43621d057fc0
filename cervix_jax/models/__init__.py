"""Networks: backbones, heads, and the pretrained weights that backbones start from."""
