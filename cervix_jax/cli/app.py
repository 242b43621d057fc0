"""What the programs share: one config flag, errors as one line, a result as one JSON object on the last line."""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from cervix_jax.cache import cache_dir
from cervix_jax.errors import Interrupted, UserError


def config_flag() -> flags.FlagHolder:
    """`--config=FILE.py`, and `--config.NAME=VALUE` for every option of `cervix_jax.config`."""
    help_text = "Configuration file, such as configs/report.py; cervix_jax/config.py explains every option."
    holder = config_flags.DEFINE_config_file("config", None, help_text)
    flags.mark_flag_as_required("config")
    return holder


def prepare_process() -> None:
    """What makes programs fast that must be settled before JAX is imported; the user's environment goes first.

    Compiled programs are kept in `cache_dir()`, so that the next start need not compile them.

    On Linux the process starts again, once, with large allocations in huge pages: XLA on CPU takes its working memory,
    a gigabyte, anew for each step, and to clear that in pages of 4 KiB is a fifth of the time of a step. The C library
    reads this setting only when a process starts.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, sys.orig_argv)


def run(program: Callable[[], dict[str, Any]]) -> None:
    """Parses the flags, runs a program and prints its result as JSON on standard output.

    An error that a user can act on ends with its message and status 2, an interruption with status 130; anything else
    is a defect and shows its traceback.

    Args:
      program: does the work; called once flags are parsed.
    """
    prepare_process()
    logging.set_verbosity(logging.ERROR)
    # As Ctrl-C, until training saves first. In a container, where Python is process 1, SIGTERM would have no effect.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def main(_: list[str]) -> None:
        try:
            result = program()
        except UserError as error:
            _end(f"error: {error}", 2)
        except Interrupted as stop:
            _end(str(stop) if _speaks() else None, 130)
        except KeyboardInterrupt:
            _end("interrupted", 130)
        else:
            if _speaks():
                print(json.dumps(result), flush=True)

    app.run(main, flags_parser=_parse)


def _speaks() -> bool:
    """Whether this process gives the result: the only one, or the first of several."""
    progress = sys.modules.get("cervix_jax.progress")
    return progress is None or not progress.is_muted()


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            flags.FLAGS.config.items()  # a file that is not there is an error only once it is used
    except (flags.Error, UserError) as error:
        _end(f"error: {error}", 2)
    except OSError as error:
        _end(f"error: --config: {str(error).splitlines()[-1].strip()}", 2)
    except (KeyError, AttributeError) as error:  # ml_collections' own, with the nearest option in the message
        message = str(error.args[0]).replace("\\'", "'").strip("\"'").splitlines()
        _end(f"error: there is no option {message[0].strip(chr(39))!r}. {' '.join(message[1:])}", 2)
    if rest[1:]:
        _end(f"error: unexpected arguments {' '.join(rest[1:])}; options are written --name=value", 2)
    return rest


def _end(message: str | None, status: int) -> None:
    if message is not None:
        print(message, file=sys.stderr, flush=True)
    sys.exit(status)
