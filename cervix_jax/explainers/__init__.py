"""Models and results to pictures."""
