"""Pages are one file, complete and safe for any name."""

import html.parser
import re

import numpy as np

from cervix_jax import html_page

NAME = 'a "<b>" & caf\udce9.jpg'


class Texts(html.parser.HTMLParser):
    """Collects tags, alternative texts and words as a browser reads them."""

    def __init__(self):
        super().__init__()
        self.tags, self.alts, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.alts += [value for key, value in attrs if key == "alt"]

    def handle_data(self, data):
        self.words.append(data.strip())


def test_a_page_says_what_it_was_given_and_loads_nothing(tmp_path) -> None:
    picture = np.full((4, 3, 3), 200, np.uint8)
    sections = [
        html_page.heading(NAME),
        html_page.table(("name", "count"), [(NAME, 3)]),
        html_page.figure(html_page.jpeg_source(picture, (6, 8)), NAME, [NAME, "second line"], size="thumbnail"),
        html_page.figure(html_page.png_source(b"png"), "a curve"),
        html_page.paragraph(NAME),
    ]
    path = html_page.write_page(tmp_path / "made/page.html", NAME, sections)
    assert html_page.is_page(path)
    content = path.read_text(encoding="utf-8")
    texts = Texts()
    texts.feed(content)
    shown = r'a "<b>" & caf\xe9.jpg'
    assert texts.words.count(shown) == 6  # title, both headings, cell, caption, paragraph
    assert texts.alts == [shown, "a curve"]
    assert "b" not in texts.tags
    assert "<td class=number>3</td>" in content
    assert not re.search(r"(src|href|url)=?.(?!data:)[^d]*https?:", content)
    assert '<html lang="en">' in content
