"""Lists the programs, or starts one: `python -m cervix_jax train ...` is `python -m cervix_jax.train ...`."""

import ast
import difflib
import runpy
import sys
from pathlib import Path


def main() -> None:
    programs = _programs()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in programs:
        del sys.argv[1]
        runpy.run_module(f"cervix_jax.{name}", run_name="__main__", alter_sys=True)
    elif name in ("-h", "--help", "help"):
        width = max(map(len, programs))
        print("python -m cervix_jax PROGRAM [FLAGS]; PROGRAM --help says more\n")
        print("\n".join(f"  {program:{width}}  {does}" for program, does in programs.items()))
    else:
        nearest = difflib.get_close_matches(name, programs, 1, 0.0)[0]
        print(f"error: there is no program {name!r}; did you mean {nearest}?", file=sys.stderr)
        sys.exit(2)


def _programs() -> dict[str, str]:
    """The first line of what each program says of itself; nothing is imported."""
    paths = [path for path in sorted(Path(__file__).parent.glob("*.py")) if path.name != Path(__file__).name]
    texts = {path.stem: path.read_text() for path in paths}
    documented = {name: ast.get_docstring(ast.parse(text)) or "" for name, text in texts.items() if "app.run(" in text}
    return {name: text.splitlines()[0] for name, text in documented.items()}


if __name__ == "__main__":
    main()
