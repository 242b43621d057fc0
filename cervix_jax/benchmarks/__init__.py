"""How fast the software is on this machine, each figure against a limit measured in the same run."""
