# SPDX-License-Identifier: Apache-2.0
"""The documentation says what the code does: nothing is missing, nothing is stale, no link leads nowhere."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer import Context
from typer.main import get_command

from migrator import __version__, cli
from migrator.answers import write_answers
from migrator.audit import audit
from migrator.checks import CHECKS
from migrator.checks.recommend import Verdict
from migrator.containerd_dump import RULES as PLAN_RULES
from migrator.errors import EXIT_CODE_MEANING, ExitCode
from migrator.schemas import NAMES, load_schema
from migrator.steps.registry import KINDS
from migrator.verify import RULES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench import run as bench  # noqa: E402
from tools import gen_docs, session  # noqa: E402 - scripts beside the package
from tools.samples import facts  # noqa: E402 - the same

GROUP: Any = get_command(cli.app)
COMMANDS: dict[str, Any] = dict(gen_docs.leaves(GROUP))
GROUPS: dict[str, Any] = {
    "": GROUP,
    **{name: each for name, each in GROUP.commands.items() if hasattr(each, "commands")},
}
PAGES = sorted(
    path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.name != "CHANGELOG.md"
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def test_generated_pages_are_what_the_code_says_now() -> None:
    assert gen_docs.stale() == [], "run `make docs`"


def options_of(command: Any) -> set[str]:
    return {option for each in command.params if each.param_type_name == "option" for option in each.opts}


@pytest.mark.parametrize("name", [*GROUPS, *COMMANDS])
def test_every_command_says_what_it_does_and_gives_an_example(name: str) -> None:
    command = {**GROUPS, **COMMANDS}[name]
    what, *_, example = (command.help or "").split("\n\n")

    assert what
    assert not what.startswith("Example")
    assert re.match(rf"Example: cgmigrate {name}\b", example)
    assert [] == [parameter.name for parameter in command.params if not parameter.help or parameter.hidden]


@pytest.mark.parametrize("group", GROUPS)
def test_the_list_of_commands_has_whole_sentences_on_80_columns(group: str) -> None:
    shown = GROUPS[group].get_help(Context(GROUPS[group], info_name="cgmigrate", terminal_width=78))
    listed = shown.partition("\nCommands:\n")[2].splitlines()

    assert len(GROUPS[group].commands) == len(listed)
    assert [] == [line for line in listed if not line.endswith(".") or line.endswith("...")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_reference(name: str) -> None:
    page = text("docs", "reference", "commands.md")
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]

    assert section
    assert [] == missing(options_of(COMMANDS[name]), section)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_command_and_option_is_in_the_manual_page(name: str) -> None:
    page = text("docs", "cgmigrate.1").replace("\\-", "-").replace("\\(aq", "'")
    title = f"\n.SS {name}\n" if name else "\n.SH OPTIONS\n"
    section = re.split(r"\n\.S[HS] ", page.partition(title)[2])[0]

    assert section
    assert [] == missing(options_of({**COMMANDS, "": GROUP}[name]), section)


def test_every_option_before_the_command_is_in_the_reference() -> None:
    assert [] == missing(options_of(GROUP), text("docs", "reference", "commands.md").partition("\n## ")[0])


def missing(options: set[str], page: str) -> list[str]:
    return sorted(option for option in options if not re.search(rf"[`\s]{option}[,`\s]", page))


IN_A_SENTENCE = re.compile(r"`(cgmigrate [^`\n]+)`")
IN_A_BLOCK = re.compile(r"^(?:[#$] )?(cgmigrate .+)$", re.MULTILINE)


def unknown_words(line: str) -> list[str]:
    """Return the command and the options in `cgmigrate …` that there are not."""
    words = re.split(r" (?:#|>|>>|\||\|\||&&|&|2>\S*)(?: |$)|[;`]", line)[0].split()[1:]
    known = options_of(GROUP) | {"--help", "-h"}
    # A command has one word or two, and may stand behind an option and its value.
    possible = (" ".join(words[start : start + length]) for length in (2, 1) for start in (0, 2))
    name = next((each for each in possible if each in COMMANDS), "")
    if name:
        known |= options_of(COMMANDS[name])
    given = [each.strip("[](),.") for each in words]
    options = [each.partition("=")[0] for each in given if re.match(r"--?[a-z]", each)]
    bare = not name and given and not given[0].startswith(("-", "…", "NAME"))
    return [each for each in options if each not in known] + ([given[0]] if bare else [])


SAYING = [*PAGES, *sorted((ROOT / "migrator").rglob("*.py"))]


@pytest.mark.parametrize("path", SAYING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_that_is_shown_has_a_command_and_options_that_exist(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    lines = IN_A_SENTENCE.findall(page) + IN_A_BLOCK.findall("\n".join(FENCE.findall(page)))

    assert {} == {line: wrong for line in lines if (wrong := unknown_words(line))}


def test_the_page_about_staying_has_every_recommendation() -> None:
    page = text("docs", "how-to", "when-to-stay-on-cgroupfs.md")

    assert [] == [each for each in Verdict if f"| `{each}` |" not in page]


def test_the_answers_that_are_shown_are_those_that_are_written_for_a_sample() -> None:
    (shown,) = re.findall(
        r"^```yaml\n(.*?)^```", text("docs", "how-to", "unattended.md"), re.MULTILINE | re.DOTALL
    )
    written = write_answers(audit(facts("worker-with-budget"))).splitlines()

    assert [] == [line for line in shown.splitlines() if line not in ("…", *written)]


def test_the_readme_has_a_line_for_every_command() -> None:
    rows = re.findall(r"^\| `([a-z]+)[^`]*` \|", text("README.md"), re.MULTILINE)

    assert sorted(rows) == sorted({name.split()[0] for name in COMMANDS})


def test_the_readme_gives_every_exit_code_its_meaning() -> None:
    rows = re.findall(r"^\| (\d) \| (.+) \|$", text("README.md"), re.MULTILINE)

    assert {int(code): meaning for code, meaning in rows} == {
        int(code): meaning for code, meaning in EXIT_CODE_MEANING.items()
    }


def test_the_session_in_the_readme_has_the_commands_that_are_recorded() -> None:
    shown = [line.removeprefix("# ") for line in session.recorded().splitlines() if line.startswith("# ")]

    assert list(session.COMMANDS) == shown


def test_every_exit_code_has_a_meaning_and_is_in_the_reference() -> None:
    rows = re.findall(
        r"^\| (\d+) \| ([A-Z_]+) \| (.+?) \|", text("docs", "reference", "exit-codes.md"), re.MULTILINE
    )

    assert list(ExitCode) == list(EXIT_CODE_MEANING)
    assert rows == [(str(int(code)), code.name, meaning) for code, meaning in EXIT_CODE_MEANING.items()]


def test_the_codes_that_a_signal_ends_a_command_with_are_in_the_reference() -> None:
    rows = re.findall(r"^\| (\d+) \| (SIG\w+) \|$", text("docs", "reference", "exit-codes.md"), re.MULTILINE)

    assert sorted(rows) == [("129", "SIGHUP"), ("130", "SIGINT"), ("131", "SIGQUIT"), ("143", "SIGTERM")]


@pytest.mark.parametrize("each", [*CHECKS, *PLAN_RULES, *RULES])
def test_every_finding_is_in_the_reference(each: str) -> None:
    page = text("docs", "reference", "findings.md")

    assert f"| [`{each}`](#{each}) |" in page
    assert f"\n### {each}\n" in page


def test_no_check_gives_a_finding_an_id_that_is_not_registered() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "migrator" / "checks").glob("*.py"))
    used = {name for source in sources for name in re.findall(r"Finding\(\s*id=\"([^\"]+)\"", source)}

    assert len(used) > len(CHECKS) / 2
    assert used <= CHECKS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_kind_is_in_reference_schema_and_explanation(kind: str) -> None:
    assert f"\n## {kind}\n" in text("docs", "reference", "steps.md")
    assert kind in load_schema("plan-1")["$defs"]
    assert f"**{kind}**" in text("docs", "explanation", "what-each-step-does.md")


def test_the_schema_knows_the_step_kinds_and_no_others() -> None:
    assert sorted(KINDS) == load_schema("plan-1")["$defs"]["step"]["properties"]["kind"]["enum"]


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property of a schema with its path; conditions (`if`, `then`) only refer to definitions."""
    if isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from properties(inner, f"{path}/{index}")
    elif isinstance(schema, dict):
        for key, inner in schema.items():
            if key == "properties":
                for name, each in inner.items():
                    yield f"{path}/{name}", each
                    yield from properties(each, f"{path}/{name}")
            elif key not in ("if", "then", "else", "examples", "const", "enum"):
                yield from properties(inner, f"{path}/{key}")


@pytest.mark.parametrize("name", NAMES)
def test_every_property_of_a_schema_is_described_with_an_example_that_holds(name: str) -> None:
    schema = load_schema(name)
    found = dict(properties(schema))
    bare = [path for path, each in found.items() if not each.get("description") or not each.get("examples")]
    wrong = [
        f"{path}: {error.message}"
        for path, each in found.items()
        for example in each.get("examples", [])
        for error in Draft202012Validator({**each, "$defs": schema.get("$defs", {})}).iter_errors(example)
    ]

    assert found
    assert bare == []
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_closed_and_carries_its_version_in_name_id_and_const(name: str) -> None:
    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    opened = [
        path
        for path, each in [("", schema), *schema.get("$defs", {}).items(), *properties(schema)]
        if "properties" in each and each.get("additionalProperties") is not False
    ]

    assert opened == []
    assert schema["$id"] == f"{name}.schema.json"
    assert schema["properties"]["version"]["const"] == int(name.rpartition("-")[2])


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as the usual viewers make them of its headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        if not page.exists():  # the test of links names it
            continue
        links = [link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8"))]
        targets = {(page.parent / link).resolve() for link in links if link.endswith(".md")}
        waiting += targets - reached

    assert {path for path in PAGES if (ROOT / "docs") in path.parents} - reached == set()


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    pattern = re.compile(r"(?:`|^(?:# |\$ |    )?)make ([a-z-]+)", re.MULTILINE)
    named = {
        (page.name, target) for page in PAGES for target in pattern.findall(page.read_text(encoding="utf-8"))
    }

    assert {target for _, target in named} >= {"demo", "test", "check", "lab-up"}
    assert sorted(f"{page}: make {target}" for page, target in named if target not in targets) == []


def test_the_page_of_benchmarks_has_a_row_for_every_budget() -> None:
    page = text("docs", "benchmarks.md")

    assert [row.work for row in bench.ROWS if f"| {row.work} |" not in page] == []


def test_changelog_fragments_have_a_known_type_and_say_something() -> None:
    kinds = "feature|bugfix|doc|removal|misc"
    fragments = [path for path in (ROOT / "changelog.d").glob("*.md") if path.name != "template.md"]

    assert [
        path.name for path in fragments if not re.fullmatch(rf"(\+[\w-]+|\d+)\.({kinds})\.md", path.name)
    ] == []
    assert [path.name for path in fragments if not path.read_text(encoding="utf-8").strip()] == []


def test_what_is_new_is_in_the_changelog_or_in_a_fragment() -> None:
    released = f"## {__version__} (" in text("CHANGELOG.md")
    fragments = [path for path in (ROOT / "changelog.d").glob("*.md") if path.name != "template.md"]

    assert released or fragments


def test_a_decision_has_all_its_parts_and_is_in_the_list() -> None:
    folder = ROOT / "docs" / "decisions"
    parts = ["Situation", "Decision", "Alternatives", "Consequences"]
    listed = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(path for path in folder.glob("[0-9]*.md") if not path.name.startswith("0000"))

    assert {
        path.name: re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        for path in records
    } == {path.name: parts for path in records}
    assert [path.name for path in records if path.name not in listed] == []


def test_the_json_files_of_the_schemas_are_written_in_one_way() -> None:
    for name in NAMES:
        data = text("migrator", "schemas", f"{name}.schema.json")

        assert json.dumps(json.loads(data), indent=2, ensure_ascii=False) + "\n" == data


def test_every_guarantee_names_tests_that_exist() -> None:
    page = text("docs", "explanation", "guarantees.md")
    promises = page.partition("## What holds")[2].partition("\n## ")[0].split("\n- **")[1:]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", promise) for promise in promises]
    missing = [
        f"{path}::{name}"
        for each in named
        for path, name in each
        if not (ROOT / path).exists() or f"def {name}(" not in text(path)
    ]

    assert len(promises) > 10
    assert [promise for promise, tests in zip(promises, named, strict=True) if not tests] == []
    assert missing == []
