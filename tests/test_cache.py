"""Where what can be made again is kept."""

from cervix_jax.cache import cache_dir


def test_the_cache_is_the_users_unless_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CERVIX_JAX_CACHE", raising=False)
    assert cache_dir().name == "cervix_jax"
    assert cache_dir().is_relative_to(tmp_path)
    monkeypatch.setenv("CERVIX_JAX_CACHE", "~/elsewhere")
    assert cache_dir() == tmp_path / "elsewhere"
    monkeypatch.setenv("CERVIX_JAX_CACHE", "")
    assert cache_dir().name == "cervix_jax"
