"""The page for the clinic, and the machine behind it: photographs in, what may be said of them out, nothing kept."""
