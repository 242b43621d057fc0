"""The report's tables: which variants they compare, published numbers, and the same variants measured here."""
