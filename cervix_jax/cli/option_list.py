"""Options and configs in words, for people; the values, for programs."""

import ast
import importlib.util
import sys
import textwrap
from pathlib import Path
from typing import Any

from cervix_jax import config as options
from cervix_jax.config import ConfigError

_INDENT = " " * 6


def show_options(folder: Path) -> dict[str, Any]:
    """Prints every option with default and meaning, and the first line of each config of a folder; returns defaults."""
    defaults = options.flatten(options.get_config())
    for name, (_, meaning) in options.OPTIONS.items():
        _print(f"--config.{name}={_plain(defaults[name])}", meaning)
    for path in sorted(folder.glob("*.py")) if folder.is_dir() else []:
        _print(f"--config={path}", (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0])
    return defaults


def show_config(path: Path) -> dict[str, Any]:
    """Prints the options that a config sets to other values than the defaults; returns all of its values.

    Raises:
      ConfigError: there is no such file, or it is no config.
    """
    spec = importlib.util.spec_from_file_location("shown_config", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"there is no configuration file {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        values = options.flatten(module.get_config())
    except Exception as error:  # it is Python of anybody's
        raise ConfigError(f"{path} cannot be read as a configuration: {error}") from error
    defaults = options.flatten(options.get_config())
    for name, value in values.items():
        if value != defaults.get(name):
            _print(f"--config.{name}={_plain(value)}", f"by default {_plain(defaults.get(name))}")
    return values


def _print(name: str, meaning: str) -> None:
    text = textwrap.fill(" ".join(meaning.split()), 120, initial_indent=_INDENT, subsequent_indent=_INDENT)
    print(f"{name}\n{text}", file=sys.stderr)


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
