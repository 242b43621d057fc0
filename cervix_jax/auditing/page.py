"""An audit as files: tables (CSV), contact sheets (PNG) and one HTML page that needs nothing else."""

import base64
import csv
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from cervix_jax.auditing.box_findings import BOX_KINDS
from cervix_jax.auditing.findings import KINDS, Audit, Finding, additional_features
from cervix_jax.datasets.splits import ADDITIONAL
from cervix_jax.errors import UserError

SHOWN = 24  # pictures per kind; the tables list all
_COLUMNS = 6
_THUMBNAIL = (120, 160)  # width, height in pixels

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number { text-align: right; } figure { display: inline-block; width: 120px; margin: .3rem; vertical-align: top; }
figcaption { font-size: 11px; line-height: 1.3; overflow-wrap: anywhere; } img { width: 120px; }
"""


class OutputFolderError(UserError):
    """The page would be written among the photographs."""


def check_output(output: Path, folder: Path) -> None:
    """Raises OutputFolderError if the folder to write to lies in the folder of photographs, or is that."""
    if output.resolve().is_relative_to(folder.resolve()):
        raise OutputFolderError(f"--output={output} lies among the photographs of {folder}; choose another")


def write_page(audit: Audit, folder: Path, output: Path) -> list[Path]:
    """Writes `index.html`, `findings.csv`, `cleaning.csv` and a contact sheet of each kind of finding.

    Args:
      audit: the findings.
      folder: what was audited; its name is the page's title.
      output: folder to write to; made if missing.

    Returns:
      The files written.
    """
    output.mkdir(parents=True, exist_ok=True)
    columns = ("kind", "image_name", "detail", "group")
    rows = [(f.kind, printable(f.name), f.detail, f.group if f.group >= 0 else "") for f in audit.findings]
    paths = [_write_csv(output / "findings.csv", columns, rows)]
    columns = ("image_name", "log_density", "sharpness", "rejected")
    features = [(printable(name), f"{d:.3f}", f"{s:.0f}", reason) for name, d, s, reason in additional_features(audit)]
    paths.append(_write_csv(output / "cleaning.csv", columns, features))
    sheets = {kind: audit.of(kind) for kind in KINDS if kind != "damaged" and audit.of(kind)}
    sheets |= {"kept": _kept(audit)} if _kept(audit) else {}
    for kind, findings in sheets.items():
        path = output / f"{kind}.png"
        captions = [f"{Path(f.name).name}\n{f.detail}" for f in findings[:SHOWN]]
        pictures = [audit.picture(f.name, with_boxes=kind in BOX_KINDS) for f in findings[:SHOWN]]
        contact_sheet(pictures, captions).save(path)
        paths.append(path)
    page = output / "index.html"
    page.write_text(_html(audit, folder), encoding="utf-8")
    return [page, *paths]


def contact_sheet(images: Sequence[UInt8[np.ndarray, "h w 3"]], captions: Sequence[str]) -> Image.Image:
    """Thumbnails in rows of six, each with up to two lines of text below it."""
    width, height = _THUMBNAIL
    cell = (width + 8, height + 30)
    rows = -(-len(images) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * cell[0], max(rows, 1) * cell[1]), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = i % _COLUMNS * cell[0] + 4, i // _COLUMNS * cell[1]
        sheet.paste(Image.fromarray(image).resize(_THUMBNAIL), (x, y))
        for line, text in enumerate(caption.splitlines()[:2]):
            draw.text((x, y + height + 2 + 13 * line), printable(text)[:21], fill="black")
    return sheet


def printable(name: str) -> str:
    """A file name with bytes that are not UTF-8 escaped, so that it can be written anywhere."""
    return name.encode(errors="backslashreplace").decode()


def _kept(audit: Audit) -> list[Finding]:
    additional = audit.manifest.of(ADDITIONAL)
    return [
        Finding("kept", name, "")
        for name, is_additional, reason in zip(audit.manifest.names, additional, audit.assignment.reasons, strict=True)
        if is_additional and not reason
    ]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def _html(audit: Audit, folder: Path) -> str:
    sections = [
        f"<title>Audit of {_text(folder.resolve().name)}</title><style>{_STYLE}</style>",
        f"<h1>Audit of {_text(folder.resolve().name)}</h1>",
        f"<p>{len(audit.manifest.names)} photographs can be read, {len(audit.of('damaged'))} cannot.</p>",
        _table(
            ("folder", "type", "photographs"),
            [
                (folder_name, type_name, n)
                for folder_name, counts in audit.counts.items()
                for type_name, n in counts.items()
            ],
        ),
        "<h2>Findings</h2>",
        _table(("kind", "photographs", "meaning"), [(kind, len(audit.of(kind)), text) for kind, text in KINDS.items()]),
    ]
    for kind, text in KINDS.items():
        findings = audit.of(kind)
        if not findings:
            continue
        sections.append(f"<h2 id='{kind}'>{_text(kind.replace('_', ' '))}: {len(findings)}</h2><p>{_text(text)}</p>")
        if kind == "damaged":
            sections.append(_table(("photograph", "reason"), [(f.name, f.detail) for f in findings]))
            continue
        sections += [_figure(audit, finding) for finding in findings[:SHOWN]]
        if len(findings) > SHOWN:
            sections.append(f"<p>and {len(findings) - SHOWN} more in findings.csv</p>")
    return "<!doctype html><html lang='en'><meta charset='utf-8'>" + "\n".join(sections) + "</html>\n"


def _figure(audit: Audit, finding: Finding) -> str:
    out = io.BytesIO()
    picture = audit.picture(finding.name, with_boxes=finding.kind in BOX_KINDS)
    Image.fromarray(picture).resize(_THUMBNAIL).save(out, "JPEG", quality=80)
    source = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
    group = f" (group {finding.group})" if finding.group >= 0 else ""
    return (
        f"<figure><img src='{source}' alt=''><figcaption>{_text(finding.name)}<br>{_text(finding.detail)}{group}"
        "</figcaption></figure>"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def cell(value: object) -> str:
        return f"<td{' class=number' if isinstance(value, int) else ''}>{_text(str(value))}</td>"

    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{_text(name)}</th>' for name in header)}</tr>{body}</table>"


def _text(text: str) -> str:
    return html.escape(printable(text))
