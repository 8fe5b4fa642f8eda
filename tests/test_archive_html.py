"""report.html: what it tells, that no name becomes code, and, in a real browser, that it works."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import stat
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.archive.crops import thumbnail
from facecam.archive.digest import OF_STRANGER, STRETCHES, digest, href, player_offset
from facecam.archive.html import page, title, write_report
from facecam.archive.presence import Appearance, FileSeen
from facecam.errors import OutputError
from facecam.values import SourceInfo
from facecam.video.sinks import VideoSink
from tests.fakes import make_clip, smooth
from tests.support import HOPPER

SCRIPT = "<script>alert(1)</script>"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def face(seed: int = 0) -> bytes:
    return bytes(cv2.imencode(".jpg", smooth(16, 16, seed))[1].tobytes())


def video(
    name: str, rows: list[tuple[str | None, int | None, float, float]], folder: Path = Path("/films"), **more: Any
) -> FileSeen:
    found = [Appearance(k, who, n, a, b, 0.9, None, face(k)) for k, (who, n, a, b) in enumerate(rows, 1)]
    return FileSeen(f"films/{name}", "video", folder / name, found, **{"duration": 10.0, **more})


def photo(name: str, names: list[str | None]) -> FileSeen:
    found = [Appearance(k, who, None, box=(1, 2, 3, 4), picture=face(k)) for k, who in enumerate(names, 1)]
    return FileSeen(f"photos/{name}", "photo", Path("/photos") / name, found, width=640, height=480)


class Scripts(HTMLParser):
    """The elements of a page and the text of its scripts, by a parser that is not ours."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


EMPTY = Scripts(page(digest([], Path("/out")), "x"))


# --- what it tells --------------------------------------------------------------------------------------------


def test_totals_pairs_and_strangers() -> None:
    files = [
        video("a.mp4", [("Ada", None, 0, 4), ("Ada", None, 4.5, 6), ("Bo", None, 3, 5), (None, 7, 0, 1)]),
        video("b.mp4", [("Ada", None, 0, 1), (None, None, 2, 3)], damaged=2),
        photo("c.jpg", ["Ada", "Bo", None]),
    ]
    data = digest(files, Path("/out"), ["d.mp4: no"])
    people = {p["n"]: (p["u"], p["t"], p["c"], p["v"], p["p"]) for p in data["people"]}
    assert people == {
        "Ada": (None, 6.5, 3, 2, 1),
        "Bo": (None, 2.0, 2, 1, 1),
        "Unknown 7": (7, 1.0, 1, 1, 0),
        "unknown": (-1, 1.0, 2, 1, 1),
    }
    names = [p["n"] for p in data["people"]]
    assert [(names[a], names[b], seconds, photos) for a, b, seconds, photos in data["pairs"]] == [
        ("Ada", "Bo", 1.5, 1),
        ("Ada", "Unknown 7", 1.0, 0),
    ]
    assert [(file, start) for _, file, start in data["nameless"]] == [(1, 2), (2, 0)]
    assert [f["n"] for f in data["files"]] == ["films/a.mp4", "films/b.mp4", "photos/c.jpg"]
    assert [f["x"] for f in data["files"]] == [0, 2, 0]
    lane = data["files"][0]["l"][0]
    assert (names[lane["i"]], lane["t"], lane["s"]) == ("Ada", 5.5, [0, 6, 0.9])
    assert data["failures"] == ["d.mp4: no"]


def test_pictures_stand_once_and_within_the_budget() -> None:
    rows = [(None, 3, float(k), k + 0.5) for k in range(20)]
    data = digest([video("a.mp4", [*rows, ("Ada", None, 0, 1)])], Path("/out"))
    stranger = next(p for p in data["people"] if p["u"] == 3)
    assert len(stranger["g"]) == OF_STRANGER
    assert len(data["pictures"]) == len(set(data["pictures"]))
    small = digest([video("a.mp4", [*rows, ("Ada", None, 0, 1)])], Path("/out"), budget=len(data["pictures"][0]) + 8)
    assert len(small["pictures"]) == 1 and small["people"][0]["g"] == [0], "people with names come first"


def test_very_many_stretches_are_joined_until_a_page_can_draw_them() -> None:
    rows = [Appearance(k, "Ada", None, k * 3.0, k * 3.0 + 0.1) for k in range(3 * STRETCHES)]
    data = digest([FileSeen("a", "video", Path("/a.mp4"), rows, duration=9.0 * STRETCHES)], Path("/out"))
    (lane,) = data["files"][0]["l"]
    assert len(lane["s"]) <= 3 * STRETCHES
    assert lane["t"] == pytest.approx(0.1 * len(rows), abs=0.1), "the time on screen stays exact"


def test_files_are_listed_from_where_their_folders_part() -> None:
    def names(*sources: str) -> list[str]:
        files = [FileSeen(source, "video", Path(source), []) for source in sources]
        return [entry["n"] for entry in digest(files, Path("/out"))["files"]]

    assert names("/home/me/films/a.mp4", "/home/me/films/2019/b.mp4") == ["a.mp4", "2019/b.mp4"]
    assert names("/home/me/films/a.mp4", "/home/me/photos/b.jpg") == ["films/a.mp4", "photos/b.jpg"]
    assert names("films/a.mp4", "films/b.mp4") == ["a.mp4", "b.mp4"]
    assert names("a.mp4", "films/b.mp4") == ["a.mp4", "films/b.mp4"]
    assert names("/home/me/films/a.mp4") == ["/home/me/films/a.mp4"]
    assert names() == []


def test_links_are_relative_and_never_of_another_scheme(tmp_path: Path) -> None:
    assert href(tmp_path / "a b#1.mp4", tmp_path) == "./a%20b%231.mp4"
    assert href(tmp_path / "x" / "a.mp4", tmp_path / "out") == "../x/a.mp4"
    assert href(Path("javascript:alert(1)"), Path()) == "./javascript%3Aalert%281%29"
    assert href(tmp_path / "\udcff.mp4", tmp_path) == "./%FF.mp4", "a name that is no UTF-8"


def test_the_title_says_what_was_labelled() -> None:
    one, two = video("a.mp4", []), photo("b.jpg", [])
    assert title([one]) == "a.mp4"
    assert title([one, one, two]) == "2 videos and 1 photo"
    assert title([]) == "no files"


@given(
    st.one_of(st.sampled_from([SCRIPT, "</script>", "<!--", "]]>", "'\"", "\u2028", "\\u003c", "$title"]), st.text())
)
def test_no_text_becomes_markup(text: str) -> None:
    seen = [FileSeen(text, "video", Path("/a.mp4"), [Appearance(1, text, None, 0, 1)], duration=1.0)]
    parsed = Scripts(page(digest(seen, Path("/out"), [text]), text))
    assert parsed.tags == EMPTY.tags, "the same elements, whatever the names are"
    data = json.loads(parsed.scripts[0])
    assert parsed.scripts[1] == EMPTY.scripts[1]
    assert [data["failures"][0]] == [data["files"][0]["n"]] == [data["people"][0]["n"]]


def test_nothing_comes_from_elsewhere_and_only_the_own_script_runs(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, [video("a.mp4", [("Ada", None, 0, 1)])])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    parsed = Scripts(path.read_text(encoding="utf-8"))
    assert not [value for key, value in parsed.attributes if key in ("src", "href", "style") or key.startswith("on")]
    policy = next(v for k, v in parsed.attributes if k == "content" and v and v.startswith("default-src"))
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    with pytest.raises(OutputError, match="exists already"):
        write_report(path, [])
    before = path.read_bytes()
    write_report(path, [video("a.mp4", [("Ada", None, 0, 1)])], overwrite=True)
    assert path.read_bytes() == before, "the same run, the same file"


def test_a_player_counts_from_the_first_sound_or_picture(tmp_path: Path) -> None:
    silent = make_clip(tmp_path / "silent.mp4", [smooth(64, 48)] * 3, times=[25, 26, 27])
    assert player_offset(silent) == 0.0
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    assert player_offset(tmp_path / "no.mp4") == player_offset(tmp_path / "missing.mp4") == 0.0


@pytest.mark.data
def test_a_late_picture_is_found_by_the_player(data: Path) -> None:
    """The development clip's sound begins 0.844 s before its first picture (ffprobe: 0.852019 and 0.008005)."""
    assert player_offset(data / "clip" / "hamilton.mp4") == 0.844


# --- in a browser ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a screen."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if BROWSER is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@contextlib.contextmanager
def opened(browser: Any, path: Path, width: int = 1280) -> Iterator[Any]:
    """The page; fails on whatever the browser complains about, a blocked or a foreign request included."""
    view = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    view.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else 0)
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    view.on(
        "request",
        lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:")) else 0,
    )
    view.goto(path.as_uri())
    try:
        yield view
        assert complaints == []
    finally:
        view.close()


def until(view: Any, condition: str, seconds: float = 30.0) -> None:
    """Wait for a condition; Playwright's own waiting evaluates text in the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not view.evaluate(condition):
        assert time.monotonic() < end, condition
        view.wait_for_timeout(20)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds at 5 frames a second."""
    path = tmp_path_factory.mktemp("film") / 'it\'s "a" #1 <film>.mp4'
    with VideoSink(path, SourceInfo("film", 160, 120, fps=5)) as sink:
        for k in range(50):
            sink.write(np.full((120, 160, 3), 5 * k, np.uint8), k / 5)
    return path


def test_a_report_of_one_video(browser: Any, film: Path) -> None:
    rows = [(SCRIPT, None, 1.0, 3.0), ("Zoë", None, 4.0, 6.0), ("שלום", None, 6.4, 8.0), (None, 12, 7.0, 9.0)]
    rows += [(None, None, 8.5, 9.5)]
    out = film.parent / "report.html"
    write_report(out, [video(film.name, rows, film.parent)], overwrite=True)
    with opened(browser, out) as view:
        assert view.title().startswith(film.name)
        names = view.locator("#people .card .name").all_text_contents()
        assert names == [SCRIPT, "Zoë", "שלום"], "the name is text; it did not run"
        assert view.locator("#unknown .card .name").all_text_contents() == ["Unknown 12"]
        assert (
            view.locator("#unknown code").text_content() == 'facecam people name "Unknown 12" NAME --index archive.db'
        )
        assert view.locator("#nameless button").count() == 1
        assert view.locator("#together li").count() == 1
        until(view, "document.querySelector('video').readyState >= 1")
        bars = view.locator(".line a")
        assert bars.count() == 5
        assert bars.nth(1).get_attribute("href").endswith("%3Cfilm%3E.mp4#t=4")
        bars.nth(1).click()
        until(view, "document.querySelector('video').currentTime >= 4")
        assert view.evaluate("document.querySelector('video').currentTime") < 5.5
        until(view, "document.querySelector('.lane.now')")
        assert view.locator(".lane.now .name").text_content() == "Zoë"
        view.locator("#nameless button").click()
        until(view, "document.querySelector('video').currentTime >= 8.5")
        view.locator(".times summary").click()
        until(view, "document.querySelectorAll('.times li').length == 5")
        view.locator(".times a").first.click()
        until(view, "document.querySelector('video').currentTime < 4")


def test_a_video_that_is_gone_says_so(browser: Any, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    write_report(out, [video("gone.mp4", [("Ada", None, 1, 2)], tmp_path)])
    view = browser.new_page()
    view.goto(out.as_uri())
    view.wait_for_selector("text=it has been moved")
    assert view.locator(".line a").count() == 1
    view.close()


def test_five_hundred_files_stay_usable(browser: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    crop = thumbnail(HOPPER.read_bytes())
    files = []
    for i in range(400):
        rows = []
        for k in range(40):
            start = float(rng.uniform(0, 3500))
            person = int(rng.integers(0, 60))
            name, unknown = (f"Person {person}", None) if person < 30 else (None, person)
            # A comment at a JPEG's end makes each picture another one, of true size.
            picture = crop + b"%d %d" % (i, k)
            rows.append(Appearance(k, name, unknown, start, start + 60, 0.9, None, picture))
        files.append(FileSeen(f"films/{i:03d}.mp4", "video", tmp_path / f"{i:03d}.mp4", rows, duration=3600.0))
    files += [photo(f"{i}.jpg", ["Person 1", None]) for i in range(100)]
    out = tmp_path / "report.html"
    write_report(out, files, ["x.mp4: cannot be decoded"])
    assert out.stat().st_size < 20e6
    with opened(browser, out) as view:
        view.wait_for_selector(".file")
        assert view.locator(".file").count() <= 120, "rows are drawn when they are scrolled to"
        assert view.locator("#count").text_content() == "500 files"
        view.locator("#search").fill("films/399")
        until(view, "document.querySelectorAll('.file').length == 1")
        view.locator("#search").fill("")
        until(view, "document.querySelectorAll('.file').length > 1")
        view.locator("#people .card").first.click()
        chosen = view.locator("#people .card[aria-pressed=true] .name").text_content()
        assert re.fullmatch(r"\d+ of 500 files", view.locator("#count").text_content())
        shown = view.locator(".file .chips").all_text_contents()
        assert shown and all(chosen in text or "+" in text for text in shown)
        view.locator("#clear").click()
        view.locator("#sort").select_option("seen")
        for drawn in (60, 120):
            view.evaluate("window.scrollTo(0, document.body.scrollHeight)")
            until(view, f"document.querySelectorAll('.file').length > {drawn}")


def test_it_fits_a_phone(browser: Any, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    write_report(out, [video("a" * 90 + ".mp4", [("W" * 100, None, 0, 1), (SCRIPT * 3, None, 0, 3)], tmp_path)])
    view = browser.new_page(viewport={"width": 360, "height": 700})
    view.goto(out.as_uri())
    view.wait_for_selector(".lane")
    assert view.evaluate("document.documentElement.scrollWidth") <= 360, "nothing sticks out"
    view.close()
