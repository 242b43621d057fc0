"""Speed on this machine, each figure beside a limit that is measured in the same run."""
