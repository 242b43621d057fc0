"""Jobs over several runs, or over all files of one: cross-validation, and whether everything is whole."""
