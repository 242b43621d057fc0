"""Options in words: all of them with their meaning, and of a config what it sets."""

import pytest

from cervix_jax import config as options
from cervix_jax.cli.option_list import show_config, show_options


def test_every_option_is_shown_with_its_meaning(tmp_path, capsys) -> None:
    (tmp_path / "mine.py").write_text('"""What it is for.\\n\\nMore."""')
    assert show_options(tmp_path) == options.flatten(options.get_config())
    shown = capsys.readouterr().err
    for name, (_, meaning) in options.OPTIONS.items():
        assert f"--config.{name}=" in shown
        assert " ".join(meaning.split())[:60] in " ".join(shown.split())
    assert f"--config={tmp_path / 'mine.py'}\n      What it is for.\n" in shown


def test_of_a_config_what_differs_is_shown(tmp_path, capsys) -> None:
    path = tmp_path / "mine.py"
    lines = ["from cervix_jax import config", "def get_config():", "    made = config.get_config()"]
    path.write_text("\n".join([*lines, "    made.epochs = 3", "    return made"]))
    assert show_config(path)["epochs"] == 3
    assert capsys.readouterr().err == "--config.epochs=3\n      by default 30\n"
    for content in ("1 / 0", "x = 3", "def get_config(): return {'epoch'}"):
        path.write_text(content)
        with pytest.raises(options.ConfigError, match="cannot be read as a configuration"):
            show_config(path)
    with pytest.raises(options.ConfigError, match="there is no configuration file"):
        show_config(tmp_path / "none.py")
