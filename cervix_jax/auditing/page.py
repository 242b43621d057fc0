"""An audit as files: tables (CSV), contact sheets (PNG) and one HTML page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from cervix_jax import html_page
from cervix_jax.auditing.box_findings import BOX_KINDS
from cervix_jax.auditing.findings import KINDS, Audit, Finding, additional_features
from cervix_jax.csv_files import csv_writer, printable
from cervix_jax.datasets.splits import ADDITIONAL
from cervix_jax.outputs import OutputError, check_outputs

PAGE, FINDINGS, CLEANING, MEASUREMENTS = "index.html", "findings.csv", "cleaning.csv", "measurements.sqlite"
KEPT = "kept"  # the contact sheet of additional photographs that cleaning keeps
SHOWN = 24  # pictures per kind; the tables list all
_COLUMNS = 6
_THUMBNAIL = (120, 160)  # width, height in pixels


def check_output(output: Path, folder: Path, *, overwrite: bool) -> None:
    """Raises OutputError if the page would lie among the photographs, or replace files that no audit has written."""
    if output.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"--output={output} lies among the photographs of {folder}; choose another")
    paths = [output / name for name in (PAGE, FINDINGS, CLEANING, *(f"{kind}.png" for kind in (*KINDS, KEPT)))]
    check_outputs(paths, lambda path: (path.parent / MEASUREMENTS).exists(), overwrite=overwrite)


def write_page(audit: Audit, folder: Path, output: Path) -> list[Path]:
    """Writes `index.html`, `findings.csv`, `cleaning.csv` and a contact sheet of each kind of finding.

    Args:
      audit: the findings.
      folder: what was audited; its name is the page's title.
      output: folder to write to; made if missing.

    Returns:
      The files written.
    """
    with csv_writer(output / FINDINGS) as writer:
        writer.writerow(["kind", "image_name", "detail", "group"])
        writer.writerows((f.kind, f.name, f.detail, f.group if f.group >= 0 else "") for f in audit.findings)
    with csv_writer(output / CLEANING) as writer:
        writer.writerow(["image_name", "log_density", "sharpness", "rejected"])
        writer.writerows((name, f"{d:.3f}", f"{s:.0f}", reason) for name, d, s, reason in additional_features(audit))
    paths = [output / FINDINGS, output / CLEANING]
    sheets = {kind: audit.of(kind) for kind in KINDS if kind != "damaged" and audit.of(kind)}
    sheets |= {KEPT: kept} if (kept := _kept(audit)) else {}
    for kind in {*KINDS, KEPT} - sheets.keys():  # of an audit before
        (output / f"{kind}.png").unlink(missing_ok=True)
    for kind, findings in sheets.items():
        path = output / f"{kind}.png"
        captions = [f"{Path(f.name).name}\n{f.detail}" for f in findings[:SHOWN]]
        pictures = [audit.picture(f.name, with_boxes=kind in BOX_KINDS) for f in findings[:SHOWN]]
        contact_sheet(pictures, captions).save(path)
        paths.append(path)
    title = f"Audit of {folder.resolve().name}"
    return [html_page.write_page(output / PAGE, title, _sections(audit)), *paths]


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


def _kept(audit: Audit) -> list[Finding]:
    additional = audit.manifest.of(ADDITIONAL)
    return [
        Finding(KEPT, name, "")
        for name, is_additional, reason in zip(audit.manifest.names, additional, audit.assignment.reasons, strict=True)
        if is_additional and not reason
    ]


def _sections(audit: Audit) -> list[str]:
    counts = [(folder, name, n) for folder, types in audit.counts.items() for name, n in types.items()]
    sections = [
        html_page.paragraph(f"{len(audit.manifest.names)} photographs can be read, {len(audit.of('damaged'))} cannot."),
        html_page.table(("folder", "type", "photographs"), counts),
        html_page.heading("Findings"),
        html_page.table(
            ("kind", "photographs", "meaning"), [(kind, len(audit.of(kind)), text) for kind, text in KINDS.items()]
        ),
    ]
    for kind, text in KINDS.items():
        findings = audit.of(kind)
        if not findings:
            continue
        sections += [html_page.heading(f"{kind.replace('_', ' ')}: {len(findings)}"), html_page.paragraph(text)]
        if kind == "damaged":
            sections.append(html_page.table(("photograph", "reason"), [(f.name, f.detail) for f in findings]))
            continue
        sections += [_figure(audit, finding) for finding in findings[:SHOWN]]
        if len(findings) > SHOWN:
            sections.append(html_page.paragraph(f"and {len(findings) - SHOWN} more in findings.csv"))
    return sections


def _figure(audit: Audit, finding: Finding) -> str:
    picture = audit.picture(finding.name, with_boxes=finding.kind in BOX_KINDS)
    group = f" (group {finding.group})" if finding.group >= 0 else ""
    caption = [finding.name, f"{finding.detail}{group}"]
    return html_page.figure(html_page.jpeg_source(picture, _THUMBNAIL), finding.name, caption, size="thumbnail")
