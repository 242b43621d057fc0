"""Messages go to standard error, unless the process is silenced."""

import logging

from cervix_jax import progress


def test_a_message_is_a_line_on_standard_error(capsys) -> None:
    progress.log("half way")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "half way\n")


def test_other_hosts_say_nothing(capsys) -> None:
    logger = logging.getLogger("cervix_jax")
    level = logger.level
    try:
        logger.setLevel(logging.WARNING)
        assert progress.is_silenced()
        progress.log("half way")
    finally:
        logger.setLevel(level)
    assert not progress.is_silenced()
    assert capsys.readouterr().err == ""
