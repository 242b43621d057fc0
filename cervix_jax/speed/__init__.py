"""How fast the software is on the machine at hand, each figure against a limit measured in the same run."""
