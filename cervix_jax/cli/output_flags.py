"""The flag of the programs that write files where they are told to."""

from absl import flags

OVERWRITE = flags.DEFINE_boolean(
    "overwrite", False, "Replace files of other kinds too; those that this program has written are replaced anyway."
)
