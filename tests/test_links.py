"""Links, anchors, paths and modules that the pages name exist, so that a renamed file cannot leave a page behind."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cervix_jax", "configs", "launch", "tests")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md")),
]

FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: *(\S+)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
MODULE = re.compile(r"\b(?:python -m |import |from )((?:cervix_jax|tests|configs)(?:\.\w+)+)")
# From the root of the repository, wherever the page lies; not the end of another path or of an address.
PATH = re.compile(rf"(?<![\w/.~-])(?:\.\.?/)*((?:{'|'.join(FOLDERS)})/[\w./-]*\w)")
BARE_FILE = re.compile(r"[\w./-]+\.(?:py|sh|sbatch|yaml|toml|lock)")
PLACEHOLDER = re.compile(r"(?<![A-Za-z])(?!README|RESULTS)[A-Z]{2,}(?![A-Za-z])")  # such as ROOM in a pattern of paths


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to the headings of a page."""
    fragments: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", page.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        repeated = sum(fragment == slug or re.fullmatch(f"{slug}-\\d+", fragment) is not None for fragment in fragments)
        fragments.add(f"{slug}-{repeated}" if repeated else slug)
    return fragments


def broken(page: Path, root: Path = ROOT) -> Iterator[str]:
    """What a page names and is not there."""
    text = page.read_text()
    prose = FENCED.sub("", text)
    for match in LINK.finditer(CODE.sub("", prose)):
        link = next(filter(None, match.groups()))
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (fragment and fragment not in anchors(target)):
            yield link
    for path in PATH.findall(text):
        if not PLACEHOLDER.search(path) and not (root / path).exists():
            yield path
    for module in MODULE.findall(text):
        if PLACEHOLDER.search(module):
            continue
        path = root / module.replace(".", "/")
        if not (path.is_dir() or path.with_suffix(".py").exists() or path.parent.with_suffix(".py").exists()):
            yield module
    for code in CODE.findall(prose):
        name = code.partition(":")[0]  # configs/system.py:NAME
        places = (page.parent, root, root / "cervix_jax")
        if BARE_FILE.fullmatch(name) and not PLACEHOLDER.search(name) and not any((p / name).exists() for p in places):
            yield name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    assert set(broken(page)) == set()


def test_what_is_not_there_is_reported(tmp_path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/report.py").touch()
    (tmp_path / "other.md").write_text("# A heading, `code`\n## Twice\n```\n# no heading\n```\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[good](other.md#a-heading-code) [good](#here) [good](other.md#twice-1) [web](https://x.org/configs/a.py)\n"
        "`configs/report.py:NAME` `report.py` `configs/` `run.json` ~/.cache/configs/x `cervix_jax/ROOM/README.md`\n"
        "    ./configs/report.py\n"
        "[1](gone.md) [2](other.md#no-heading) [3](#gone) ![4](gone.png)\n"
        "```\npython -m cervix_jax.NAME\npython -m cervix_jax.gone --config=configs/gone.py\n```\n"
        "`configs/gone.sh` `gone.py`\n"
    )
    links = ["gone.md", "other.md#no-heading", "#gone", "gone.png"]
    named = ["configs/gone.py", "configs/gone.sh", "cervix_jax.gone", "report.py", "configs/gone.sh", "gone.py"]
    assert list(broken(page, tmp_path)) == links + named
