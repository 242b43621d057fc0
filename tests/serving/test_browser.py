"""The page in a real browser, Debian's chromium; run with -m browser. A request to anywhere else fails the test."""

import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cervix_jax.images import synthetic
from tests.serving.conftest import BOX, DARK, OPEN, SURE, TORN, StubService, jpeg, running

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.browser
WORDS = json.loads((Path(__file__).parents[2] / "cervix_jax/serving/page/words.json").read_text())
EN = WORDS["en"]


@pytest.fixture(scope="module")
def server():
    """Says what the upper left pixel of a photograph asks for: red, green, blue, or any other."""
    said = {(255, 0, 0): TORN, (0, 255, 0): OPEN, (0, 0, 255): DARK}

    def say(pixel):
        nearest = [key for key in said if np.abs(np.subtract(pixel, key)).max() < 60]
        return dataclasses.replace(said[nearest[0]] if nearest else SURE, located=BOX)

    with running(StubService(say)) as server:
        yield server


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Paths of synthetic photographs, by what is said of them."""
    folder = tmp_path_factory.mktemp("chosen")
    corners = {"sure": None, "torn": (255, 0, 0), "open": (0, 255, 0), "dark": (0, 0, 255)}
    for i, (name, corner) in enumerate(corners.items()):
        pixels = synthetic.draw(2, "test", i).image.copy()
        pixels[:32, :32] = corner or pixels[:32, :32]
        (folder / f"{name}.jpg").write_bytes(jpeg(Image.fromarray(pixels), quality=95))
    (folder / "broken.jpg").write_bytes(b"no photograph")
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    film = tmp_path_factory.mktemp("film") / "camera.y4m"  # what the camera sees: a synthetic photograph
    film.write_bytes(y4m(Image.fromarray(synthetic.draw(2, "test", 0, size=(480, 640)).image)))
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*flags, f"--use-file-for-fake-video-capture={film}"]
        )
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page as some device shows it; nothing may be fetched from elsewhere, or fail, or be kept."""
    contexts, wrong = [], []

    def open_page(path="", before=lambda page: None, **device):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}, "locale": "en"} | device))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda r: r.url.startswith((server.url, "blob:")) or wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: m.type == "error" and "status of 422" not in m.text and wrong.append(m.text))
        page.on("filechooser", lambda chooser: None)  # from now on: a subscription takes effect some time after it
        before(page)
        page.goto(server.url + path)
        page.locator("#choose:enabled").wait_for()
        return page

    yield open_page
    for context in contexts:
        assert context.cookies() == []
        for page in context.pages:
            assert page.evaluate("() => [localStorage.length, sessionStorage.length]") == [0, 0]
        context.close()
    assert wrong == []


def add(page, *paths) -> None:
    """Chooses photographs, and waits until all are looked at."""
    page.set_input_files("#files", list(paths))
    page.get_by_text(EN["status_done"]).wait_for()


def verdicts(page) -> list[str]:
    return page.locator(".card .verdict").all_text_contents()


def violations(page) -> list[str]:
    """What axe-core finds wrong with the page as it is now."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    results = axe.Axe().run(page)
    return [f"{v['id']}: {[node['html'] for node in v['nodes']]}" for v in results.response["violations"]]


def test_several_photographs_each_with_what_may_be_said_of_it(open_page, photographs) -> None:
    page = open_page()
    add(page, *(photographs[name] for name in ("sure", "torn", "open", "dark", "broken")))
    assert verdicts(page) == [
        "This looks like type 2.",
        "Undecided between type 1 and type 2: refer.",
        "The type is unclear: refer.",
        "Take it again: it is too dark and it is blurred.",
        EN["error_unreadable"],
    ]
    possible = page.locator(".card").nth(1).locator(".possible .type").all_text_contents()
    assert possible == ["type 1", "type 2"]
    box = page.locator(".card .outline").first.bounding_box()
    shown = page.locator(".card .photograph").first.bounding_box()
    assert box["x"] + box["width"] / 2 == pytest.approx(shown["x"] + shown["width"] / 2, abs=3)
    assert box["width"] == pytest.approx(0.6 * shown["width"], abs=5)
    # Together: any good photograph leaves a type possible; without the one that is open, two are.
    together = page.locator(".woman > .verdict")
    assert together.text_content() == "All photographs together: The type is unclear: refer."
    page.locator(".card").nth(2).get_by_role("button", name=EN["remove"]).click()
    assert together.text_content() == "All photographs together: Undecided between type 1 and type 2: refer."
    assert violations(page) == []


def test_a_map_on_demand_and_by_another_method(open_page, photographs) -> None:
    page = open_page()
    add(page, photographs["sure"])
    page.get_by_role("switch").check()
    assert page.locator(".map").get_attribute("alt") == "Photograph 1 in grey, with bright places that speak for type 2"
    page.get_by_text(EN["map_help"]).wait_for()
    page.get_by_label(EN["map_method"]).select_option("occlusion")
    page.get_by_text(EN["map_none"]).wait_for()
    assert page.locator(".map").count() == 0
    page.get_by_role("switch").uncheck()
    assert page.get_by_text(EN["map_none"]).count() == 0


def test_photographs_of_two_women(open_page, photographs) -> None:
    page = open_page()
    add(page, photographs["sure"])
    page.get_by_role("button", name=EN["woman_next"]).click()
    add(page, photographs["torn"], photographs["sure"])
    assert page.locator(".woman h2").all_text_contents() == ["Woman 2", "Woman 1"]
    page.locator(".woman").first.locator(".card").nth(1).get_by_label(EN["belongs"]).select_option("1")
    assert page.locator(".woman").last.locator(".card").count() == 2
    assert page.evaluate("() => document.activeElement.dataset.focus") == "woman"


def test_the_camera_of_the_computer(open_page) -> None:
    page = open_page()
    page.evaluate(
        """() => {
          window.tracks = [];
          const devices = navigator.mediaDevices, get = devices.getUserMedia.bind(devices);
          devices.getUserMedia = (wanted) => get(wanted).then((stream) => (tracks.push(...stream.getTracks()), stream));
        }"""
    )
    page.get_by_role("button", name=EN["take"]).dblclick()
    page.get_by_role("button", name=EN["shoot"]).click()
    page.get_by_text(EN["status_done"]).wait_for()
    assert verdicts(page) == ["This looks like type 2."]
    assert page.evaluate("() => document.querySelector('.photograph').naturalWidth") == 640
    assert page.evaluate("() => document.getElementById('viewfinder').srcObject") is None
    assert page.evaluate("() => tracks.map((track) => track.readyState)") == ["ended"]  # the camera is off


def test_a_phone_opens_its_own_camera_and_nothing_is_wider_than_it(open_page, photographs) -> None:
    for language in WORDS:
        page = open_page(f"?lang={language}", viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name=WORDS[language]["take"], exact=True).click()
        assert chooser.value.element.get_attribute("capture") == "environment"
        chooser.value.set_files(photographs["dark"])
        page.get_by_text(WORDS[language]["status_done"]).wait_for()
        assert page.evaluate("() => document.documentElement.scrollWidth") == 360
        heights = page.evaluate("() => [...document.querySelectorAll('button, select')].map(e => e.offsetHeight)")
        assert all(height == 0 or height >= 44 for height in heights)  # a finger's width (WCAG 2.5.5); 0: not shown
        assert violations(page) == []


def test_another_language_changes_everything_that_is_shown(open_page, photographs) -> None:
    page = open_page(locale="fr-CD")
    assert page.get_by_role("heading", level=1).text_content() == WORDS["fr"]["title"]
    page.get_by_label(WORDS["fr"]["language"]).select_option("en")
    add(page, photographs["torn"])
    page.get_by_label(EN["language"]).select_option("sw")
    assert verdicts(page) == ["Haijabainika ni ipi kati ya aina ya 1 na aina ya 2: toa rufaa."]
    assert page.evaluate("() => document.documentElement.lang") == "sw"
    assert "lang=sw" in page.url
    shown = page.locator("body").inner_text()
    assert not [text for text in EN.values() if len(text) > 15 and "{" not in text and text in shown]


def test_buttons_can_be_used_once_the_words_are_there(open_page) -> None:
    unusable = []

    def look(route) -> None:
        page = route.request.frame.page
        unusable.extend(page.locator(button).is_disabled() for button in ("#take", "#choose"))
        route.continue_()

    page = open_page(before=lambda page: page.route("**/words.json", look))
    assert unusable == [True, True]
    with page.expect_file_chooser():
        page.locator("#choose").click()


def test_keys_alone_do_it(open_page, photographs) -> None:
    page = open_page()
    for _ in range(10):
        if page.evaluate("() => document.activeElement.id") == "choose":
            break
        page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photographs["sure"])
    page.get_by_text(EN["status_done"]).wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.dataset.focus") == "map"
    page.keyboard.press("Space")
    page.locator(".map").wait_for()
    assert page.evaluate("() => document.activeElement.dataset.focus") == "map"
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_the_referral_note_is_one_page_without_a_name(open_page, photographs, tmp_path) -> None:
    page = open_page()
    page.evaluate("() => { window.print = () => document.body.classList.add('printed'); }")
    add(page, *([photographs["torn"]] * 5))
    page.get_by_role("button", name=EN["print"]).click()
    page.locator("body.printed").wait_for()
    for words in WORDS.values():  # in the longest language too
        page.emulate_media(media="null")
        page.locator("#language").select_option(label=words["this_language"])
        page.get_by_role("button", name=words["print"]).click()
        page.get_by_role("heading", name=words["letter_title"], include_hidden=True).wait_for(state="attached")
        pdf = page.pdf(prefer_css_page_size=True, path=str(tmp_path / "note.pdf"))
        assert pdf.count(b"/Type /Page\n") == 1, words["this_language"]
    page.locator("#language").select_option("en")
    page.get_by_role("button", name=EN["print"]).click()
    page.get_by_role("heading", name=EN["letter_title"], include_hidden=True).wait_for(state="attached")
    page.emulate_media(media="print")
    shown = page.locator("body").inner_text()
    assert "Referral note: cervix" in shown
    assert "Undecided between type 1 and type 2: refer." in shown
    assert "And 1 more photographs." in shown
    assert EN["note"] in shown
    assert EN["choose"] not in shown
    assert page.locator("#letter input").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_structure_are_right_in_light_and_dark(open_page, photographs, scheme) -> None:
    page = open_page(color_scheme=scheme)
    assert violations(page) == []
    add(page, *(photographs[name] for name in ("sure", "torn", "dark", "broken")))
    page.get_by_role("switch").first.check()
    page.locator(".map").wait_for()
    assert violations(page) == []


def test_a_code_is_asked_for_where_the_server_has_one(browser, photographs) -> None:
    token = "a-token-of-enough-length"
    with running(StubService(), token=token) as server:
        page = browser.new_page(locale="en")
        page.goto(server.url)
        page.get_by_label(EN["token_ask"]).fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text(EN["error_token"]).wait_for()
        page.get_by_label(EN["token_ask"]).fill(token)
        page.keyboard.press("Enter")
        page.locator("#about").wait_for()
        add(page, photographs["sure"])
        assert verdicts(page) == ["This looks like type 2."]
        page.goto("about:blank")
        page.goto(f"{server.url}#{token}")  # as the program prints it
        page.locator("#about").wait_for()
        assert page.locator("#token-form").is_hidden()
        page.close()


def test_a_server_that_is_gone_is_said_in_words(browser, photographs) -> None:
    with running(StubService()) as server:
        page = browser.new_page(locale="en")
        page.goto(server.url)
        page.locator("#about").wait_for()
        page.context.set_offline(True)
        page.set_input_files("#files", photographs["sure"])
        page.get_by_text(EN["error_network"]).wait_for()
        page.context.set_offline(False)
        page.get_by_role("button", name=EN["again"]).click()
        page.get_by_text("This looks like type 2.").wait_for()
        page.close()


def y4m(image: Image.Image) -> bytes:
    """An uncompressed film of two pictures, as Chromium's camera plays it."""
    planes = [np.asarray(plane) for plane in image.convert("YCbCr").split()]
    frame = b"FRAME\n" + planes[0].tobytes() + b"".join(plane[::2, ::2].tobytes() for plane in planes[1:])
    out = io.BytesIO(f"YUV4MPEG2 W{image.width} H{image.height} F10:1 Ip A1:1 C420jpeg\n".encode())
    out.seek(0, io.SEEK_END)
    out.write(frame * 2)
    return out.getvalue()
