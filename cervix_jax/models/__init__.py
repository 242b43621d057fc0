"""Networks, and the pretrained weights some of them start from."""
