"""Results to pictures: figures of evaluations, panels and contact sheets of explanations."""
