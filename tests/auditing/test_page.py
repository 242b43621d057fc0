"""The page and tables of an audit: complete, safe for any file name, and in need of no other file."""

import csv
import dataclasses
import re

import pytest
from PIL import Image

from cervix_jax.auditing import page
from cervix_jax.outputs import OutputError


def test_only_an_audit_is_replaced_unless_asked_for(tmp_path):
    folder, output = tmp_path / "photographs", tmp_path / "audit"
    output.mkdir()
    page.check_output(output, folder, overwrite=False)
    for name in ("kept.png", "index.html"):
        (output / name).write_text("mine")
        with pytest.raises(OutputError, match=rf"{name} is something else"):
            page.check_output(output, folder, overwrite=False)
        page.check_output(output, folder, overwrite=True)
        (output / name).rename(tmp_path / name)
    (tmp_path / "index.html").rename(output / "index.html")
    page.check_output(output, folder, overwrite=True)
    (output / page.MEASUREMENTS).touch()
    page.check_output(output, folder, overwrite=False)
    with pytest.raises(OutputError, match="lies among the photographs"):
        page.check_output(folder / "audit", folder, overwrite=True)


def test_files_are_complete_and_the_page_needs_nothing_else(audit, folder, tmp_path):
    paths = page.write_page(audit, folder, tmp_path)
    assert {path.name for path in paths} >= {"index.html", "findings.csv", "cleaning.csv", "near_duplicates.png"}
    with (tmp_path / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["image_name"]) for row in rows] == [(f.kind, f.name) for f in audit.findings]
    with (tmp_path / "cleaning.csv").open(newline="") as file:
        scored = list(csv.DictReader(file))
    assert len(scored) == audit.manifest.of("additional").sum()
    html = (tmp_path / "index.html").read_text()
    assert not re.search(r"(src|href)=.(?!data:)", html)
    assert "audited &lt;folder&gt;" in html
    assert "green &lt;i&gt;.jpg" in html
    assert html.count("<h1>") == html.count("<title>") == 1
    assert '<html lang="en">' in html
    assert 'alt=""' not in html
    assert "<i>" not in html
    with Image.open(tmp_path / "near_duplicates.png") as sheet:
        assert sheet.width == 6 * 128


def test_contact_sheets_of_an_audit_before_are_removed(audit, folder, tmp_path):
    page.write_page(audit, folder, tmp_path)
    assert (tmp_path / "blurred.png").exists()
    others = tuple(finding for finding in audit.findings if finding.kind != "blurred")
    page.write_page(dataclasses.replace(audit, findings=others), folder, tmp_path)
    assert not (tmp_path / "blurred.png").exists()
    assert (tmp_path / "near_duplicates.png").exists()
