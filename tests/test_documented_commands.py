"""Commands as the pages and the programs' own helps write them: the programs are there, and know the flags."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator

import pytest

from airquality.__main__ import TOOLS
from tests.test_readme import PAGES, ROOT

#: What ``make VERB ARGS="..."`` hands its arguments to.
VERBS = {
    "broker": "python -m airquality broker",
    "topics": "python -m airquality topics",
    "api": "python api_service.py",
    "produce": "python producer.py",
    "consume": "python consumer.py",
    "bench": "python -m benchmarks",
    "prove": "python -m lab.proof",
    "soak": "python -m lab.proof",
}
#: Programs of others.
FOREIGN = {"venv", "pip", "pytest", "ruff", "mypy"}
_COMMAND = re.compile(r"\bpython (-m )?([a-z_][\w./]*)((?: +[^\s`#&|;<>()\"']+)*)")


def commands(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each command of a text: the module that runs, and its arguments as far as they hold no quotes."""
    for verb, arguments in re.findall(r'make ([a-z-]+) (?:[A-Z]+=\S+ )*ARGS="([^"]*)"', text):
        yield from commands(f"{VERBS[verb]} {arguments}")
    for as_module, written, rest in _COMMAND.findall(text):
        program = written.rstrip(".")
        arguments = tuple(word.rstrip(".,:") for word in rest.split())
        if as_module and program == "airquality":
            if arguments and arguments[0] in TOOLS:
                yield TOOLS[arguments[0]].module, arguments[1:]
        elif (as_module and program not in FOREIGN) or program.endswith(".py"):
            yield program.removesuffix(".py").replace("/", "."), arguments


@functools.cache
def help_of(module: str, verb: str) -> str:
    """Return what a program, or one verb of it, says of itself; empty where it has no such verb."""
    is_folder = (ROOT / module.replace(".", "/")).is_dir()
    main = importlib.import_module(f"{module}.__main__" if is_folder else module).main
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("argparse.ArgumentParser._print_message", lambda _, message, *__: said.append(message))
        try:
            main([*([verb] if verb else []), "--help"])
        except SystemExit as end:
            return "".join(said) if not end.code else ""
    return "".join(said)


def unknown(module: str, arguments: tuple[str, ...]) -> list[str]:
    """Return the flags of a command that its program does not know."""
    verb = arguments[0] if arguments and re.fullmatch("[a-z]+", arguments[0]) else ""
    known = help_of(module, verb) + help_of(module, "")
    flags = {word.partition("=")[0] for word in arguments if word.startswith("--")} - {"--help"}
    return [flag for flag in sorted(flags) if not re.search(rf"(?<![\w-]){flag}(?![\w-])", known)]


@pytest.mark.parametrize("page", [page.relative_to(ROOT).as_posix() for page in [*PAGES, ROOT / "SECURITY.md"]])
def test_commands_of_a_page_name_programs_and_flags_that_exist(page: str) -> None:
    found = commands((ROOT / page).read_text())
    wrong = {(module, flag) for module, arguments in found for flag in unknown(module, arguments)}
    assert wrong == set()


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_examples_of_a_tool_name_flags_that_exist(tool: str) -> None:
    module = TOOLS[tool].module
    found = list(commands(help_of(module, "")))
    assert found
    assert {(each, flag) for each, arguments in found for flag in unknown(each, arguments)} == set()


def test_commands_are_found_in_texts() -> None:
    text = '`python -m airquality dlq replay --reason moved`, or make produce ARGS="--rate 50 --lop"; python consumer.py.'
    found = list(commands(text))
    assert found == [
        ("producer", ("--rate", "50", "--lop")),
        ("airquality.stream.dlq", ("replay", "--reason", "moved")),
        ("consumer", ()),
    ]
    assert [unknown(*command) for command in found] == [["--lop"], [], []]
