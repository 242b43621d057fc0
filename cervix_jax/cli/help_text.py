"""What `--help` shows: what a program does with an example, and every flag that it takes, its own first."""

import sys
import textwrap

from absl import flags

_WIDTH, _INDENT = 120, " " * 6


def help_text() -> str:
    """For the program that was started."""
    main = sys.modules["__main__"]
    own, others = [], []
    for module, defined in sorted(flags.FLAGS.flags_by_module_dict().items()):
        if module == sys.argv[0] or module == "__main__":
            own += defined
        elif module.startswith("cervix_jax."):
            others += defined
    lines = [(main.__doc__ or "").strip(), ""]
    for title, group in (("flags", own), ("flags that other programs have too", others)):
        if group:
            lines += [f"{title}:", *(describe(flag) for flag in sorted(group, key=lambda flag: flag.name)), ""]
    if "config" in flags.FLAGS:
        lines += ["--config.NAME=VALUE sets an option; python -m cervix_jax.options lists them and the configs.", ""]
    return "\n".join(lines)


def describe(flag: flags.Flag) -> str:
    """A flag's name and choices, and on the next lines its meaning and default."""
    choices = getattr(flag.parser, "enum_values", None)
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}" + (f"={'|'.join(choices)}" if choices else "")
    has_default = flag.default not in (None, [], "", False)
    words = str(flag.help).splitlines()[0].removesuffix(";").removeprefix(f"<{'|'.join(choices or [])}>: ")
    meaning = words + (f" (default: {flag.default})" if has_default else "")
    return f"  {name}\n{textwrap.fill(meaning, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)}"
