"""HTML pages that are one file: pictures are embedded, nothing is loaded, and every text is escaped."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cervix_jax.atomic import write_atomic
from cervix_jax.csv_files import printable

_MARK = '<meta name="generator" content="cervix_jax">'
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number { text-align: right; } figure { display: inline-block; margin: .3rem; vertical-align: top; }
figcaption { font-size: 11px; line-height: 1.3; overflow-wrap: anywhere; } img { max-width: 100%; }
.thumbnail { width: 120px; } .thumbnail img { width: 120px; } .half { max-width: 48%; } .scroll { overflow-x: auto; }
"""


def write_page(path: Path, title: str, sections: Iterable[str]) -> Path:
    """Writes a page of sections, such as `table` and `figure` return; its first heading is the title."""
    head = f'<meta charset="utf-8">{_MARK}<title>{text(title)}</title><style>{_STYLE}</style>'
    body = "\n".join([f"<h1>{text(title)}</h1>", *sections])
    write_atomic(path, f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n')
    return path


def is_page(path: Path) -> bool:
    """Whether `write_page` has written a file."""
    with path.open("rb") as file:
        return _MARK.encode() in file.read(1000)


def text(words: str) -> str:
    """Escapes text, file names that are not UTF-8 included."""
    return html.escape(printable(words))


def heading(words: str, level: int = 2) -> str:
    """A heading; 2 is below the title."""
    return f"<h{level}>{text(words)}</h{level}>"


def paragraph(words: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{text(words)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose integers are set flush right."""

    def cell(value: object) -> str:
        return f"<td{' class=number' if isinstance(value, int) else ''}>{text(str(value))}</td>"

    head = "".join(f'<th scope="col">{text(name)}</th>' for name in header)
    body = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(
    source: str, alt: str, caption: Sequence[str] = (), *, size: Literal["thumbnail", "half", "whole"] = "whole"
) -> str:
    """A picture with its caption below.

    Args:
      source: from `png_source` or `jpeg_source`.
      alt: what it shows, for those who cannot see it; '' where the caption says it all.
      caption: lines.
      size: 120 pixels wide, at most half of the page, or all of it.
    """
    lines = f"<figcaption>{'<br>'.join(map(text, caption))}</figcaption>" if caption else ""
    return f'<figure class="{size}"><img alt="{text(alt)}" src="{source}">{lines}</figure>'


def png_source(png: bytes) -> str:
    """The bytes of a PNG file as the source of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def jpeg_source(pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> str:
    """RGB pixels as the source of an image, a JPEG of (width, height) pixels."""
    out = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
