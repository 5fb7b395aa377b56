"""A story is whole, safe and the same in every form."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from detrec.errors import ConfigError
from detrec.replayer.survey.survey import Survey
from detrec.story.facts import facts
from detrec.story.html import to_html, to_svg
from detrec.story.markdown import escaped, to_markdown
from detrec.story.write import FORMS, write
from tests.replayer.fakes import OPS, part
from tests.replayer.survey.traces import MANIFEST, STEPS, written

CHANGES = [("r1", 3, "0.attn"), ("r1", 4, "1.attn"), ("r0", 7, "1.qkv")]
HOSTILE = '<script>alert("x")</script> & `|` {{ 7 * 7 }}'
VOID = {"meta", "br"}


class Page(HTMLParser):
    """What a page is made of; an end tag that closes nothing fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a reader reads, blanks made one."""
        return " ".join(" ".join(self.words).split())


def page_of(found: dict) -> Page:
    page = Page(to_html(found))
    assert page.open == []
    return page


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    """Another kernel, another setting, another order and another token, and three rows that differ."""
    split = ("kernel",) * 5 + ("split_k",) + ("kernel",) * 3
    manifest = {**MANIFEST, "config": {**MANIFEST["config"], "engine": {"block_size": 4, "seed": 7}}}
    other = written(
        tmp_path / "b.zarr",
        [*STEPS[:2], STEPS[2][::-1], STEPS[3]],
        changes=CHANGES,
        manifest=manifest,
        kernels=lambda index: split,
        token=lambda name, at: at + 1 + (name == "r1" and at >= 5),
    )
    return Survey(written(tmp_path / "a.zarr"), other)


def test_a_page_is_balanced_and_fetches_nothing(survey: Survey):
    text = to_html(facts(survey))
    page = page_of(facts(survey))
    assert not re.search(r"https?://", text.replace("http://www.w3.org/2000/svg", ""))
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert not {"src", "href", "srcset", "action"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "url(" not in text
    assert "@import" not in text


def test_the_facts_are_on_the_page(survey: Survey):
    found, text = facts(survey), page_of(facts(survey)).text
    first = found["first"]
    for value in (
        *(
            "Diverged",
            f"first at step {first['step']}",
            first["recorded"],
            first["replayed"],
            "0.attn",
            "split_k",
        ),
        *("config.engine.seed", "born", "inherited", "2 rows diverge on their own, 3 in all"),
        *("The runs first drew another token for position 5", "1 of them scheduled differently"),
        *("not the same: order", found["command"], "both runs: at most 8 of 8 blocks of 4 tokens held"),
    ):
        assert value in text, value


def test_what_is_on_the_page_is_in_the_json(survey: Survey):
    """Numbers and names of the page, each looked for in the facts: nothing is made up on the way."""
    found = facts(survey)
    known = json.dumps(found)
    for op in found["row"]["ops"]:
        assert op["recorded"] in known
    words = re.findall(r"\b[0-9a-f]{16}\b", page_of(found).text)
    assert words
    assert all(word in known for word in words)


def test_a_strangers_words_stay_words(tmp_path: Path):
    steps = [[part(HOSTILE, 0, 3), part("r1", 0, 2)], [part(HOSTILE, 3, 4)]]
    manifest = {**MANIFEST, "config": {"model": HOSTILE, "engine": {"block_size": 4}}}
    runs = [
        written(tmp_path / name, steps, ids=(HOSTILE, "r1"), manifest=told, changes=changes)
        for name, told, changes in (
            ("a.zarr", MANIFEST, ()),
            ("<b>&.zarr", manifest, [(HOSTILE, 2, "0.attn")]),
        )
    ]
    found = facts(Survey(*runs))
    assert found["first"]["request"] == HOSTILE
    page = page_of(found)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert HOSTILE in page.text
    svg = ElementTree.fromstring(to_svg(found))
    assert "script" not in {element.tag.rpartition("}")[2] for element in svg.iter()}
    assert HOSTILE in "".join(svg.itertext())
    markdown = to_markdown(found)
    assert "<script>" not in markdown.replace("\\<script\\>", "")
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {4, 6, 7}


def test_the_page_lets_only_its_own_script_run(survey: Survey):
    policy = next(
        attributes["content"] for tag, attributes in page_of(facts(survey)).tags if "http-equiv" in attributes
    )
    assert policy.startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", policy)


def test_facts_are_json_without_infinities(survey: Survey):
    found = facts(survey)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_maps_have_a_letter_a_column(survey: Survey):
    steps, positions = facts(survey)["maps"]
    assert (steps["axis"], steps["request"]) == ("steps", None)
    assert (positions["axis"], positions["request"]) == ("positions", "r1")
    assert positions["lines"][positions["labels"].index("0")] == "===B="
    assert positions["lines"][positions["labels"].index("1")] == "====x"
    for each in (steps, positions):
        assert {len(line) for line in each["lines"]} == {len(each["edges"]) - 1}


def test_the_map_is_a_drawing_of_its_own(survey: Survey):
    svg = ElementTree.fromstring(to_svg(facts(survey)))
    states = [element.get("class") for element in svg.iter() if element.tag.endswith("rect")]
    # one rectangle in the map and one in the legend
    assert states.count("born") == 2
    assert states.count("inherited") == 2
    assert "diverged: layers against positions of r1" in "".join(svg.itertext())
    assert "layers against positions of r1" in "".join(svg.itertext())


def test_a_story_of_another_row_than_the_first(survey: Survey):
    found = facts(survey, cell=survey.goto("r0:7"))
    assert (found["row"]["request"], found["row"]["position"]) == ("r0", 7)
    assert found["first"]["request"] == "r1"
    page = page_of(found).text
    assert "Request r0 , position 7" in page
    told = page_of(found | {"kernels": {"recorded": "one", "replayed": "another kernel"}}).text
    assert "another kernel" in told


def test_a_row_is_told_around_the_op_that_was_named(survey: Survey):
    found = facts(survey, cell=survey.goto("r1:3 1.output"))
    rows = [line.split(" | ")[0] for line in to_markdown(found).splitlines() if line.startswith("| 1.")]
    assert "| 1.output" in rows
    ((name, attributes),) = [
        (tag, attributes)
        for tag, attributes in page_of(found).tags
        if tag == "tr" and "here" in (attributes.get("class") or "").split()
    ][:1]
    assert (name, attributes["class"]) == ("tr", "is-equal here")


def test_what_is_left_out_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("detrec.story.running.KERNELS_SHOWN", 2)
    monkeypatch.setattr("detrec.story.running.STEPS_ALONE", 3)
    survey = Survey(written(tmp_path / "a.zarr"))
    text = page_of(facts(survey)).text
    assert f"and {len(OPS) - 2} more" in text
    assert "4 steps; 3 of them here" in text
    told = to_markdown(facts(survey, cell=survey.goto("r1:1")))
    assert "replayed" not in told


def test_one_of_a_kind_is_no_plural(tmp_path: Path):
    one = written(tmp_path / "a.zarr", [[part("r0", 0, 1)]], ids=("r0",))
    text = page_of(facts(Survey(one))).text
    for wanted in ("1 step", "step 0 1 row", "1 request"):
        assert wanted in text, wanted
    assert not re.search(r"\b1 (steps|rows|requests|tokens)\b", text)


def test_markdown_says_what_matters(survey: Survey):
    text = to_markdown(facts(survey))
    assert text.startswith("## diverged: first at step 1, request r1, position 3, layer 0, op attn\n")
    for wanted in (
        "2 born, 1 inherited",
        "### Cause",
        "| 0.attn | born |",
        "config.engine.seed",
        "### Schedule: 4 steps, 1 scheduled differently",
        "| recorded | slices | replayed | slices | differs |",
        "- **model**: builtin:qwen2",
        "detrec diff",
    ):
        assert wanted in text, wanted


def test_markdown_takes_no_text_for_markup():
    assert escaped("a|b\n# *c* <d> `e` [f](g)") == r"a\|b \# \*c\* \<d\> \`e\` \[f\]\(g\)"


def test_one_run_alone(tmp_path: Path):
    found = facts(Survey(written(tmp_path / "a.zarr")))
    assert (found["verdict"], found["row"], found["problem"]) == (None, None, "")
    assert found["headline"] == f"one run: 4 steps, 23 rows and {len(OPS)} ops"
    text = page_of(found).text
    for wanted in ("One run", "Kernels", "KV cache", "3 requests", "step 3", "Tokens"):
        assert wanted in text
    assert "equal" not in text
    told = to_markdown(found)
    for wanted in ("### Schedule: 4 steps\n", "| step | slices |", "| r1 | 0 |", "builtin:qwen2-tiny"):
        assert wanted in told.replace("\\", ""), wanted
    assert "replayed" not in told


def test_identical_runs(tmp_path: Path):
    found = facts(Survey(written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr")))
    assert found["verdict"] == "identical"
    assert "Identical" in page_of(found).text


def test_a_trace_that_is_not_whole_is_said_to_be_that(tmp_path: Path):
    growing = written(tmp_path / "a.zarr", STEPS[:2], close=False)
    found = facts(Survey(growing, written(tmp_path / "b.zarr")))
    for text in (page_of(found).text, to_markdown(found).replace("\\", "").replace("**", "")):
        assert "is recording : not closed" in text or "is recording: not closed" in text


@pytest.mark.parametrize("ending", FORMS)
def test_the_ending_says_what_is_written(survey: Survey, tmp_path: Path, ending: str):
    found = write(survey, tmp_path / f"story{ending}")
    assert (tmp_path / f"story{ending}").read_text() == FORMS[ending](found)
    assert [path.name for path in tmp_path.glob("*story*")] == [f"story{ending}"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("story.pdf", "expected a name that ends in .html, .md, .svg, .json"),
        ("story", "expected a name that ends in"),
        ("no/story.html", "is not a folder"),
        ("kept.html", "exists already"),
        ("folder.html", "is a folder"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    survey: Survey, tmp_path: Path, name: str, says: str
):
    (tmp_path / "kept.html").write_text("mine")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ConfigError, match=re.escape(says)):
        write(survey, tmp_path / name)
    assert (tmp_path / "kept.html").read_text() == "mine"
    assert survey.comparison is None


def test_a_story_takes_the_place_of_an_older_one_when_asked_to(survey: Survey, tmp_path: Path):
    (tmp_path / "kept.md").write_text("old")
    write(survey, tmp_path / "kept.md", overwrite=True)
    assert (tmp_path / "kept.md").read_text().startswith("## diverged")
