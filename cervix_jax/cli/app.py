"""The frame of every program: its config flag, user errors as one line, the result as tables or as JSON."""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from cervix_jax import config as options
from cervix_jax.cache import cache_dir
from cervix_jax.cli import text_table
from cervix_jax.cli.help_text import help_text
from cervix_jax.errors import Interrupted, UserError
from cervix_jax.progress import is_silenced

JSON = flags.DEFINE_boolean("json", False, "Print the result as JSON on a terminal too, as it is where it is piped.")


def config_flag() -> flags.FlagHolder:
    """`--config=FILE.py`, and `--config.NAME=VALUE` for every option of `cervix_jax.config`."""
    help_text = "Configuration file, such as configs/report.py; cervix_jax/config.py explains every option."
    holder = config_flags.DEFINE_config_file("config", None, help_text)
    flags.mark_flag_as_required("config")
    return holder


def case_flag() -> flags.FlagHolder[str | None]:
    """Defines `--case_pattern`, for folders of photographs."""
    return flags.DEFINE_string(
        "case_pattern",
        None,
        "Regular expression that finds the case of a photograph in its name, as a group: atlas_(?P<case>[^_]+)_; "
        "cases.csv in the folder comes first.",
    )


def given_config_flags() -> list[str]:
    """The flags of `config_flag` as they were given, for another program."""
    flag = flags.FLAGS["config"]
    overrides = config_flags.get_override_values(flag)
    return [
        f"--config={config_flags.get_config_filename(flag)}",
        *(f"--config.{name}={value}" for name, value in overrides.items()),
    ]


def run(program: Callable[[], dict[str, Any]], *, shows_its_result: bool = False) -> None:
    """Parses the flags, calls `program` and prints its result on standard output: tables on a terminal, else JSON.

    User errors, and those of the operating system, print one line and exit with status 2, interruptions exit with
    status 130; any other exception is a bug and shows its traceback.

    Args:
      program: returns the result.
      shows_its_result: it has printed the result for people already, so that a terminal needs no tables.
    """
    _keep_compiled_programs()
    _restart_with_huge_pages()
    logging.set_verbosity(logging.ERROR)
    # The same as Ctrl-C, until training installs its own handlers. Without one, SIGTERM would have no effect on process
    # 1 of a container.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def main(_: list[str]) -> None:
        try:
            result = program()
        except UserError as error:
            _exit(f"{error.advice}\nerror: {error}" if error.advice else f"error: {error}", 2)
        except OSError as error:  # a full disk, a folder without access, a file where a folder should be
            _exit(f"error: {_describe(error)}", 2)
        except RuntimeError as error:
            if "Unable to initialize backend" not in str(error):
                raise
            _exit(f"error: JAX finds no such device: {str(error).splitlines()[0]}", 2)
        except Interrupted as stop:
            _exit(None if is_silenced() else str(stop), 130)
        except KeyboardInterrupt:
            _exit("interrupted", 130)
        else:
            if not is_silenced() and (JSON.value or not sys.stdout.isatty()):
                print(json.dumps(result), flush=True)
            elif not is_silenced() and not shows_its_result:
                print(text_table.render(result), flush=True)

    app.run(main, flags_parser=_parse)


def _describe(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' and '.join(names)}: {error.strerror}" if names and error.strerror else str(error)


def _keep_compiled_programs() -> None:
    """Has JAX, once it is imported, keep compiled programs for the next start, where the user has not said where.

    All that take a tenth of a second: a forward pass takes less than the second from which JAX keeps them otherwise.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def _restart_with_huge_pages() -> None:
    """On Linux, executes this process anew, once, with large allocations in huge pages.

    XLA on CPU allocates its working memory, a gigabyte, in each step, and clearing that in pages of 4 KiB takes a fifth
    of the step's time. The C library reads this setting only when a process starts.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, sys.orig_argv)


def _parse(argv: list[str]) -> list[str]:
    if {"--help", "-help", "-h"} & set(argv):
        print(help_text())
        sys.exit(0)
    try:
        rest = flags.FLAGS(_last_of_each_option(argv))
        if "config" in flags.FLAGS and hasattr(flags.FLAGS.config, "items"):
            flags.FLAGS.config.items()  # a missing file raises only here
    except (flags.Error, UserError) as error:
        _exit(f"error: {error}", 2)
    except OSError as error:
        _exit(f"error: --config: {str(error).splitlines()[-1].strip()}", 2)
    except (KeyError, AttributeError) as error:  # from ml_collections, of an option that is none
        _exit(f"error: {_no_such_option(argv) or error}", 2)
    if rest[1:]:
        _exit(f"error: unexpected arguments {' '.join(rest[1:])}; options are written --name=value", 2)
    return rest


def _no_such_option(argv: list[str]) -> str | None:
    """Says which `--config.NAME` is no option, and what may have been meant."""
    for argument in argv:
        name = argument.partition("=")[0].removeprefix("--config.")
        if argument.startswith("--config.") and name not in options.OPTIONS:
            return f"no option config.{name}; did you mean config.{options.nearest(name, options.OPTIONS)}?"
    return None


def _last_of_each_option(argv: list[str]) -> list[str]:
    """Arguments without `--config.NAME=` that is given again later: of tuples both would be joined."""
    names = [argument.partition("=")[0] for argument in argv]
    repeated = {name for i, name in enumerate(names) if name.startswith("--config.") and name in names[:i]}
    last = {name: len(names) - 1 - names[::-1].index(name) for name in repeated}
    return [argument for i, argument in enumerate(argv) if last.get(names[i], i) == i]


def _exit(message: str | None, status: int) -> None:
    if message is not None:
        print(message, file=sys.stderr, flush=True)
    sys.exit(status)
