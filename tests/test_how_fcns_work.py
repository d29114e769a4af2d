"""The page for students says what the code does: its numbers are computed anew, its links lead to what they name."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
NUMBER = r"(\d+(?:\.\d+)?%?)"


def load():
    spec = importlib.util.spec_from_file_location("how_fcns_work", DOCS / "how_fcns_work.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = load()


def page() -> str:
    """The page on one line, as a reader reads it."""
    return " ".join((DOCS / "how-fcns-work.md").read_text().split())


def names(source: str) -> set[str]:
    """What a module defines at its top, and the methods of its classes as Class.method."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            found |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return found


def test_every_function_that_the_page_links_stands_in_the_file_that_it_names():
    links = re.findall(r"\[`([\w.]+)`\]\(([\w./]+\.py)\)", page())
    assert len(links) > 20
    for name, path in links:
        assert name in names((DOCS / path).read_text()), f"{name} is not in {path}"


def test_every_file_that_the_page_links_is_there():
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", page()):
        assert (DOCS / path).exists(), path


@pytest.mark.parametrize("name", script.SECTIONS)
def test_the_page_states_what_the_script_computes(name):
    """The script itself raises where a proof fails: slid windows, crops, the dilated network against the strided."""
    text = page()
    for fact in script.SECTIONS[name]().facts:
        places = re.findall(r"\{(.*?)\}", fact.phrase)
        words = [re.escape(part) for part in re.split(r"\{.*?\}", " ".join(fact.phrase.split()))]
        said = re.findall(NUMBER.join(words), text)
        assert any(agrees(numbers, places, fact.values) for numbers in said), f"it is {fact}, the page says {said}"


def agrees(said, places: list[str], values: tuple[float, ...]) -> bool:
    """Exactly where the number is exact, else within one unit of the page's last digit: processors round otherwise."""
    numbers = [said] if isinstance(said, str) else said
    for number, place, value in zip(numbers, places, values, strict=True):
        if number.endswith("%") != place.endswith("%"):
            return False
        digits = number.rstrip("%")
        decimals = len(digits.partition(".")[2])
        expected = value * 100 if place.endswith("%") else value
        slack = 0 if expected == round(expected, decimals) else 10**-decimals
        if abs(float(digits) - expected) > slack:
            return False
    return True


def test_the_page_shows_every_picture_and_says_in_words_what_is_on_it():
    shown = dict(re.findall(r"!\[([^]]*)\]\(how-fcns-work/([\w-]+)\.png\)", page()))
    assert sorted(shown.values()) == sorted(script.SECTIONS)
    assert all(len(text.split()) > 8 for text in shown)
    assert sum(path.stat().st_size for path in script.PICTURES.iterdir()) < 1_000_000
