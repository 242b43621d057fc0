"""From bytes to pixels and numbers: decoding, geometry, features, near-duplicates and synthetic photographs."""
