"""The report in a real browser: read, searched, graded and exported, with no request and no error.

Chromium is driven by playwright's Python package; a browser that is on this machine is taken, so
nothing need be downloaded. Where either is missing these tests skip, saying which.
"""

import json
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpt.grades import ids_of
from gpt.metrics_file import MetricsFile
from gpt.review import write, write_report
from gpt.review_data import gather
from tests.test_review import NASTY, row, write_rows

api = pytest.importorskip(
    "playwright.sync_api", reason="could not import playwright: pip install playwright"
)

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ROWS = [
    row(1, "The capital is Lima.", "The capital is Lima.", category="facts", base_response="Lima"),
    row(2, "The capital is Quito.", "The capital is Accra.", category="facts", base_response=""),
    row(3, "Dört KEDİ", "Dört kedi", category="türkçe", base_response="Four"),
    row(4, NASTY, "Say nothing.", category="odd", base_response=NASTY),
    row(5, "", "Something.", category="odd", base_response="Something."),
]


@pytest.fixture(scope="module")
def browser() -> Iterator["api.Browser"]:
    with api.sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, BROWSERS)), playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("no Chromium on this machine: install it, or run `playwright install`")
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


class Opened:
    """Pages of one person, who sees no error and from whom no request goes out."""

    def __init__(self, browser, **settings) -> None:
        self.context = browser.new_context(accept_downloads=True, **settings)
        self.wrong: list[str] = []
        self.context.on("request", self._note_request)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def _note_request(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(request.url)

    def open(self, path: Path):
        self.page.goto(path.resolve().as_uri())
        return self.page


@pytest.fixture
def person(browser) -> Iterator[Opened]:
    opened = Opened(browser)
    yield opened
    opened.context.close()
    assert opened.wrong == []


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    write_rows(folder / "responses.jsonl", ROWS)
    told = {"settings": {"model": "gpt2"}, "command": ["train.py"] * 30}
    (folder / "run.json").write_text(json.dumps(told), encoding="utf-8")
    metrics = MetricsFile(folder / "metrics.jsonl")
    for step in range(1, 12):
        metrics.append({"step": step, "epoch": step / 10, "train_loss": 2 / step})
    return folder


def numbers(page) -> list[int]:
    """Of the answers that are shown, in their order."""
    return page.eval_on_selector_all(
        ".card", "cards => cards.map((card) => Number(card.ariaLabel.split(' ')[1]))"
    )


def press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def pressed(page) -> dict[int, str]:
    """The grades that the cards show."""
    return {
        int(number): grade
        for number, grade in page.eval_on_selector_all(
            "button.grade[aria-pressed=true]",
            "all => all.map((b) => [b.closest('.card').ariaLabel.split(' ')[1], b.textContent])",
        )
    }


def search(page, text: str) -> list[int]:
    page.fill("#search", text)
    page.wait_for_timeout(300)  # it waits for the last key
    return numbers(page)


# Looking


def test_search_finds_in_all_texts_whatever_the_case_or_accent(run, person):
    page = person.open(write_report(run))
    assert numbers(page) == [1, 2, 3, 4, 5]
    assert search(page, "capital") == [1, 2]
    assert page.inner_text("#count") == "2 of 5"
    assert search(page, "lima capital") == [1]
    assert search(page, "dort kedi") == [3]
    assert search(page, "</SCRIPT>") == [4]
    assert search(page, "nowhere") == []
    assert "No answer is like that" in page.inner_text("#end")
    page.click("#clear")
    assert numbers(page) == [1, 2, 3, 4, 5]


def test_filters_and_orders(run, person):
    page = person.open(write_report(run))

    def chosen(**values: str) -> list[int]:
        page.click("#clear") if page.is_visible("#clear") else None
        for id, value in values.items():
            page.select_option(f"#{id.replace('_', '-')}", value)
        return numbers(page)

    assert chosen(by_category="facts") == [1, 2]
    assert chosen(by_category="facts", outcome="right") == [1]
    assert chosen(flag="empty") == [5]
    assert set(chosen(flag="any")) | set(chosen(flag="none")) == {1, 2, 3, 4, 5}
    assert chosen(outcome="right") == [1]
    assert chosen(outcome="behind") == [5]
    assert chosen(grade="graded") == []
    assert chosen(sort="-words")[-1] == 5
    assert chosen(sort="words")[0] == 5
    scores = [
        page.eval_on_selector("#data", "e => JSON.parse(e.textContent).rows.map((r) => r.tuned.f1)")
    ][0]
    assert [scores[i - 1] for i in chosen(sort="f1")] == sorted(scores)
    assert [scores[i - 1] for i in chosen(sort="-f1")] == sorted(scores, reverse=True)


def test_a_category_or_a_flag_in_the_tables_shows_its_answers(run, person):
    page = person.open(write_report(run))
    page.click("button.link:text('türkçe')")
    assert numbers(page) == [3]
    page.click(".chips button:has-text('empty')")
    assert numbers(page) == [5]


def test_every_text_is_shown_to_the_letter(run, person):
    page = person.open(write_report(run))
    shown = page.eval_on_selector_all(".tuned .text", "all => all.map((e) => e.textContent)")
    assert shown[:4] == [each["response"] for each in ROWS[:4]]
    assert shown[4] == "(no text)"
    assert page.inner_text("h1") == "run"
    assert page.locator("img.curve").evaluate("image => image.naturalWidth") > 0


def test_what_an_answer_lacks_and_has_too_much_is_marked(run, person):
    page = person.open(write_report(run))
    card = page.locator(".card").nth(1)
    assert card.locator(".tuned mark.extra").all_inner_texts() == ["Quito"]
    assert card.locator("mark.missing").all_inner_texts() == ["Accra"]
    assert page.locator(".card").nth(0).locator(".tuned mark, .reference mark").count() == 0


def longest_common(a: list[str], b: list[str]) -> int:
    lengths = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b):
            before, lengths[j + 1] = (
                lengths[j + 1],
                (before + 1 if x == y else max(lengths[j + 1], lengths[j])),
            )
    return lengths[-1]


def test_what_is_not_marked_is_the_longest_common_subsequence(run, person):
    page = person.open(write_report(run))
    random_words = random.Random(0)
    pairs = [
        [" ".join(random_words.choices("abcd", k=random_words.randrange(12))) for _ in range(2)]
        for _ in range(200)
    ]
    kept = page.evaluate(
        """pairs => pairs.map(([a, b]) => {
            const [one, other] = [piecesOf(a), piecesOf(b)];
            const [inOne, inOther] = differing(one, other);
            return [one.filter((_, i) => !inOne[i]), other.filter((_, i) => !inOther[i])];
        })""",
        pairs,
    )
    for (a, b), sides in zip(pairs, kept, strict=True):
        one, other = ([piece for piece in side if piece.strip()] for side in sides)
        assert one == other
        assert len(one) == longest_common(a.split(), b.split())


def test_nothing_that_came_with_an_answer_could_run(run, browser):
    opened = Opened(browser)
    page = opened.open(write_report(run))
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const image = "<img src=x onerror='window.ran = true'>";
            document.body.insertAdjacentHTML("beforeend", image);
        }"""
    )
    assert (
        page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
        == "refused"
    )
    assert page.evaluate("window.ran") is None
    assert all("Content Security Policy" in text or "file:" in text for text in opened.wrong)
    assert not any(text.startswith("http") for text in opened.wrong)
    opened.context.close()


def test_a_category_with_the_name_of_a_javascript_property_is_a_name(run, person):
    names = ["constructor", "toString", "__proto__", "hasOwnProperty", "valueOf"]
    rows = [row(i, "a", "b", category=name, closed=True) for i, name in enumerate(names)]
    write_rows(run / "responses.jsonl", [*rows, row(9, "a", "b", category="c", closed=False)])
    page = person.open(write_report(run))
    shown = page.eval_on_selector_all(".group", "all => all.map((e) => e.textContent)")
    assert shown == [*(text for name in names for text in (name, "one right answer")), "c"]
    for i, name in enumerate(names, 1):
        page.select_option("#by-category", name)
        assert numbers(page) == [i]


def test_long_tables_show_their_first_groups_until_all_are_wanted(run, person):
    rows = [row(i, "a", "b", category=f"group {i:02}", base_response="c") for i in range(40)]
    write_rows(run / "responses.jsonl", rows)
    page = person.open(write_report(run))
    links = page.locator("button.link:visible")
    assert links.count() == 10
    assert page.inner_text("button.more") == "Show all 40"
    page.click("button.more")
    assert links.count() == 40
    page.click("button.link:text('group 33')")
    assert numbers(page) == [34]
    page.click("button.more")
    assert links.count() == 10


def test_a_link_at_the_top_leads_to_the_answers(run, person):
    page = person.open(write_report(run))
    page.set_viewport_size({"width": 1000, "height": 500})
    page.click("a.jump")
    top = page.evaluate("document.getElementById('answers').getBoundingClientRect().top")
    assert abs(top) < 250  # at the top, or as near as the end of the page lets it


@pytest.mark.parametrize("width", [360, 390, 700, 1060, 1280])
def test_no_table_is_cut_off(run, browser, width):
    long = "a category whose name has more letters than a column of a table can hold, and more"
    rows = [
        row(i, "It is right.", base_response="No.", category=f"{long} {i}", closed=i < 20,
            output_nats=1e4, n_output_tokens=9, base_output_nats=3e4, n_base_output_tokens=9)
        for i in range(40)
    ]  # fmt: skip
    write_rows(run / "responses.jsonl", rows)
    opened = Opened(browser, viewport={"width": width, "height": 800})
    page = opened.open(write_report(run))
    page.click("button.more")
    sizes = page.eval_on_selector_all(
        ".wide", "all => all.map((e) => [e.scrollWidth, e.clientWidth])"
    )
    assert len(sizes) == 3 and all(inside <= room for inside, room in sizes), sizes
    opened.context.close()


# Grading


def test_grades_by_key_are_there_again_and_go_out_as_a_file(run, person, tmp_path):
    page = person.open(write_report(run))
    press(page, "j", "1", "b", "j", "2")  # good, on to the next; bad; past one; so-so
    assert pressed(page) == {1: "good", 2: "bad", 4: "so-so"}
    press(page, "k", "k", "n")
    page.keyboard.type("j1? said she\nand left")  # these are letters here
    press(page, "Escape", "d")
    assert page.inner_text("#graded") == "3 of 5 graded: 1 good, 1 so-so, 1 bad"

    page.reload()
    assert pressed(page) == {1: "good", 2: "bad", 4: "so-so"}
    assert page.input_value(".card:nth-child(3) .remark") == "j1? said she\nand left"
    page.select_option("#grade", "noted")
    assert numbers(page) == [3]
    page.select_option("#grade", "ungraded")
    assert numbers(page) == [3, 5]
    page.select_option("#grade", "")

    with page.expect_download() as waiting:
        page.click("#export")
    assert waiting.value.suggested_filename == "run-grades.json"
    file = tmp_path / "grades.json"
    waiting.value.save_as(file)
    told = json.loads(file.read_text(encoding="utf-8"))["grades"]
    assert [(line["grade"], line["note"]) for line in told] == [
        ("good", ""), ("bad", ""), (None, "j1? said she\nand left"), ("so-so", ""),
    ]  # fmt: skip
    folded = write_report(run, file).read_text(encoding="utf-8")
    assert "3 of 5 answers graded: 1 good, 1 so-so, 1 bad." in folded


def test_the_same_key_again_takes_a_grade_back_and_so_it_stays(run, person):
    page = person.open(write_report(run))
    page.uncheck("#onward")
    press(page, "j", "1")
    assert pressed(page) == {1: "good"}
    press(page, "3")
    assert pressed(page) == {1: "bad"}
    press(page, "3")
    assert pressed(page) == {}
    page.reload()
    assert not page.is_checked("#onward")
    assert pressed(page) == {}
    page.click(".card:nth-child(2) button.grade.so-so")
    press(page, "u")  # the next without a grade
    assert page.get_attribute(".card[aria-current]", "aria-label") == "Answer 3"


def test_the_key_for_ungraded_answers_begins_anew_and_says_when_all_are_graded(run, person):
    page = person.open(write_report(run))
    page.uncheck("#onward")
    current = ".card[aria-current]"
    press(page, "j", "j", "1", "u", "1", "u", "1", "u", "1")
    assert page.get_attribute(current, "aria-label") == "Answer 5"
    press(page, "u")
    assert page.get_attribute(current, "aria-label") == "Answer 1"
    press(page, "1", "u")
    assert page.inner_text("#graded") == "all that are shown are graded"
    assert page.get_attribute(current, "aria-label") == "Answer 1"


def test_another_person_finds_the_grades_that_came_with_the_page_and_takes_a_file(
    run, person, browser, tmp_path
):
    page = person.open(write_report(run))
    press(page, "j", "3")
    with page.expect_download() as waiting:
        page.click("#export")
    file = tmp_path / "grades.json"
    waiting.value.save_as(file)
    other = Opened(browser)
    assert pressed(other.open(write_report(run, file))) == {1: "bad"}
    press(other.page, "j", "3")  # taken back, over what came with the page
    other.page.reload()
    assert pressed(other.page) == {}
    other.page.set_input_files("#file", file)
    other.page.wait_for_selector("button.grade[aria-pressed=true]")
    assert pressed(other.page) == {1: "bad"}
    other.context.close()
    assert other.wrong == []


def test_grades_belong_to_this_very_set_of_answers(run, person):
    page = person.open(write_report(run))
    press(page, "j", "1")
    write_rows(run / "responses.jsonl", [each | {"response": "changed"} for each in ROWS])
    page = person.open(write_report(run))
    assert pressed(page) == {}


def test_keys_move_and_help_opens_and_closes(run, person):
    page = person.open(write_report(run))
    current = ".card[aria-current]"
    press(page, "j", "j", "k")
    assert page.get_attribute(current, "aria-label") == "Answer 1"
    press(page, "?")
    assert page.is_visible("#keys")
    press(page, "j", "Escape")
    assert not page.is_visible("#keys")
    assert page.get_attribute(current, "aria-label") == "Answer 1"
    press(page, "/")
    assert page.evaluate("document.activeElement.id") == "search"


# Sizes and colours


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_the_page_fits_and_follows_the_systems_colours(run, browser, width, scheme):
    opened = Opened(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = opened.open(write_report(run))
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    def is_dark() -> bool:
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(n) for n in color[4:-1].split(",")) < 300

    assert is_dark() is (scheme == "dark")
    page.click("#theme")
    page.click("#theme")
    assert is_dark()
    page.reload()
    assert is_dark()
    page.click("#theme")
    assert is_dark() is (scheme == "dark")
    opened.context.close()
    assert opened.wrong == []


def test_a_report_without_answers_opens(run, person):
    (run / "responses.jsonl").unlink()
    page = person.open(write_report(run))
    press(page, "j", "1", "n")
    assert not page.is_visible("#search")


def test_5000_answers_open_within_2_seconds_and_move_at_once(tmp_path, person):
    words = random.Random(0)
    vocabulary = [f"word{i}" for i in range(500)]

    def text() -> str:
        return " ".join(words.choices(vocabulary, k=30))

    rows = [row(i, text(), text(), base_response=text()) for i in range(5000)]
    few = gather(write_rows(tmp_path / "responses.jsonl", rows[:5]))
    scores = {"answers": few.answers * 1000, "base_answers": few.base_answers * 1000}
    path = write(replace(few, rows=rows, ids=ids_of(rows), **scores), tmp_path)

    def seconds(what) -> float:
        start = time.perf_counter()
        what()
        person.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        return time.perf_counter() - start

    def opening() -> float:
        took = seconds(lambda: person.open(path))
        assert person.page.locator(".card .tuned").count() > 0
        return took

    def soon(limit: float, took: Callable[[int], float]) -> bool:
        """In one of several tries, as the machine may be busy at some of them."""
        return any(took(i) < limit for i in range(6))

    assert soon(2, lambda i: opening())
    page = person.page
    orders = ("f1", "-f1")
    assert soon(1, lambda i: seconds(lambda: page.select_option("#sort", orders[i % 2])))
    assert soon(1.3, lambda i: seconds(lambda: search(page, "word7 word8"[: 5 + 6 * (i % 2 == 0)])))
    search(page, "")
    last = ".chunk:last-child .card:last-child"
    page.evaluate(f"document.querySelector('{last}').scrollIntoView()")
    page.locator(f"{last} > *").first.wait_for(state="attached")  # (no eval: the page forbids it)
    assert page.locator(".card .tuned").count() < 500  # the others wait until somebody looks

    def median_of_j() -> float:
        press(person.page, "j")
        return statistics.median(seconds(lambda: press(person.page, "j")) for _ in range(25))

    many = min(median_of_j() for _ in range(2))
    (tmp_path / "few").mkdir()
    person.open(write(replace(few, rows=rows[:30] , ids=ids_of(rows[:30]),
                              answers=few.answers * 6, base_answers=few.base_answers * 6),
                      tmp_path / "few"))  # fmt: skip
    few_rows = median_of_j()
    assert many < max(0.06, 2.5 * few_rows), f"{many:.3f} s, of 30 answers {few_rows:.3f} s"
