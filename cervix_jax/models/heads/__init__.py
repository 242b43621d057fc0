"""Networks from backbone features, or photographs, to logits."""
