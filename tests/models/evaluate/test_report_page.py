"""The report's page: whole, escaped, self-contained, small."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from models.evaluate.report import Environment
from models.evaluate.report_html import render
from models.evaluate.thumbnail import SIDE, thumbnail
from tests.models.evaluate.report_world import HOSTILE, build_evaluation, build_report, jpeg

VOID = {"meta", "img", "br", "col"}
ELEMENTS = set(
    re.findall(
        r"\w+",
        "html head body main header footer section article div span p h1 h2 h3 title style meta svg path g"
        " rect line circle text figure figcaption table thead tbody tr th td ol li dl dt dd details summary"
        " pre b i bdi small img",
    )
)


class Page(HTMLParser):
    """What a browser would make of it. Raises AssertionError where it would have to guess."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.found.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def text(self):
        return " ".join(" ".join(data for element, data in self.texts if element != "style").split())

    def values(self, name):
        return [value for _, known, value in self.attributes if known == name]


def build_page(**options):
    thumbnails = options.pop("thumbnails", None)
    text = render(build_report(**options), thumbnails=thumbnails)
    return text, Page(text)


def hostile_page():
    labels = tuple(f"{index}{HOSTILE}" for index in range(4))
    evaluation = build_evaluation(labels=labels, name=HOSTILE + "{index}")
    spec = {"adapter": {"method": HOSTILE}, "class_weights": {HOSTILE: 1.0}}
    return build_page(
        evaluation=evaluation,
        spec=spec,
        model=HOSTILE,
        base=HOSTILE,
        job_id=HOSTILE,
        rows=[(step, {HOSTILE: 1.0 * step, f"{HOSTILE}loss": 1.0}) for step in (1, 2)],
        times_s={HOSTILE: 1.0},
        thumbnails={each.index: jpeg() for each in evaluation.worst},
    )


@pytest.mark.parametrize("classes", [2, 7, 31, 200])
def test_the_page_is_well_formed_and_made_of_plain_elements(classes):
    evaluation = build_evaluation(labels=tuple(f"class {index}" for index in range(classes)), pictures=400)
    text, page = build_page(evaluation=evaluation)
    assert text.startswith("<!doctype html>\n<html")
    assert set(page.found) <= ELEMENTS
    assert page.found.count("svg") >= 5
    said = page.text()
    for index in range(classes):
        assert f"class {index}" in said


def test_the_page_tells_the_marks_beside_the_baseline():
    evaluation = build_evaluation()
    _, page = build_page(evaluation=evaluation)
    said = page.text()
    assert f"Right on {round(evaluation.accuracy * 60)} of 60 held-out pictures" in said
    assert f"this run {evaluation.accuracy:.1%} {evaluation.macro_f1:.1%}" in said
    assert f"always “rose” {evaluation.baseline.accuracy:.1%}" in said
    assert "the weights of step 160 were kept" in said
    assert "121,344 (3.56%)" in said
    assert "3 min 32 s" in said


def test_names_from_strangers_stay_text():
    text, page = hostile_page()
    assert set(page.found) <= ELEMENTS
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "<script" not in text
    assert "alert('1')" in page.text()  # it is there, to be read
    assert not set("\x00\x1b\u202e") & set(text)  # what cuts text off, colours it, turns it around


def test_nothing_is_loaded_from_anywhere_and_nothing_could_run():
    for text, page in (hostile_page(), build_page()):
        assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
        assert not {name for _, name, _ in page.attributes} & {
            "href",
            "srcset",
            "action",
            "xlink:href",
            "data",
        }
        assert not re.search(r"@import|url\(|expression\(", text)
        policy = page.values("content")[0]
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert "script" not in policy
        first_named = text.index("<title>")
        assert text.index("Content-Security-Policy") < first_named


def test_the_page_goes_by_the_readers_light_and_screen():
    text, page = build_page()
    assert "prefers-color-scheme:dark" in text
    assert "width=device-width, initial-scale=1" in page.values("content")


def test_a_thousand_classes_with_long_hostile_names_stay_under_two_megabytes():
    labels = tuple(f"{index:04}{'<&>' * 300}" for index in range(1000))
    evaluation = build_evaluation(labels=labels, pictures=5000, name="'" * 900 + "{index}", noise=3.0)
    rows = [(step, {f"curve {name}": float(step % 7) for name in range(12)}) for step in range(5000)]
    text, page = build_page(
        evaluation=evaluation,
        rows=rows,
        spec={"class_weights": dict.fromkeys(labels, 1.0)},
        thumbnails={each.index: thumbnail(jpeg(size=(900, 900))) for each in evaluation.worst},
    )
    assert len(evaluation.worst) == 24
    assert page.found.count("img") == 24
    assert page.found.count("tr") >= 1000
    assert len(text.encode()) < 2_000_000


def test_of_many_classes_the_matrix_shows_those_that_are_confused():
    labels = [f"class {index:03}" for index in range(200)]
    evaluation = build_evaluation(labels=labels, pictures=2000, noise=0.2)  # nothing is confused
    assert "Nothing was confused" in build_page(evaluation=evaluation)[1].text()
    evaluation = build_evaluation(labels=labels, pictures=2000, noise=1.5)
    said = [data for element, data in build_page(evaluation=evaluation)[1].texts if element == "title"]
    cells = [text for text in said if " called " in text]
    shown = sum(int(re.match(r"[\d,]+", text)[0].replace(",", "")) for text in cells)
    assert shown == 2000
    assert any("others" in text for text in cells)


@pytest.mark.parametrize(
    "rows", [[], [(1, {"loss": 1.0})], [(0, {"loss": 0.0}), (5, {"loss": 0.0})], [(1, {"loss": -3e-9})]]
)
def test_short_and_flat_curves_are_drawn(rows):
    _, page = build_page(rows=rows, best_step=0, steps=0)
    assert ("How it learned" in page.text()) == bool(rows)


def test_curves_are_named_in_whole_words_beside_their_last_value():
    _, page = build_page()
    said = page.text()
    for name in (
        "training loss 0.110",
        "validation loss 0.210",
        "validation accuracy 0.995",
        "gradient norm 1.00",
    ):
        assert name in said
    assert "epoch" not in said


def test_times_of_a_resumed_run_say_that_they_are_its_last_part():
    environment = Environment(versions={}, threads=1, seed=0, attempts=2, resumed_from_step=88)
    said = build_page(environment=environment)[1].text()
    assert "Time since it went on" in said
    assert "resumed from step 88" in said
    assert "Time since" not in build_page()[1].text()


def test_a_report_without_certificate_is_a_page_too():
    _, page = build_page(certificate=None, spec={}, split="validation")
    assert "Certificate" not in page.text()
    assert "validation pictures" in page.text()


def test_a_thumbnail_is_a_small_upright_jpeg_without_its_metadata(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "where I live"
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (400, 300), "red").save(path, exif=exif)
    small = thumbnail(path.read_bytes())
    (tmp_path / "small.jpg").write_bytes(small)
    with Image.open(tmp_path / "small.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (SIDE * 3 // 4, SIDE))
    assert b"where I live" not in small
