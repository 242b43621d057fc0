"""The report's tables: systems, published numbers, and what is measured of the same systems here."""
