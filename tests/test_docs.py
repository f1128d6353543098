"""The pages lead somewhere, name what is logged, and their Python runs."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from commands import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
METRICS = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        path, _, anchor = "".join(link).partition("#")
        if path.startswith(("https:", "http:")):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {path}#{anchor}"


def test_the_index_names_every_page():
    linked = set(re.findall(r"\(([a-z]+\.md)\)", (ROOT / "docs/index.md").read_text(encoding="utf-8")))
    assert linked == {page.name for page in PAGES[1:]} - {"index.md"}


def documented() -> re.Pattern[str]:
    """All names that the page of metrics explains, as one pattern."""
    names = re.findall(r"^\|[^|]*`([a-z0-9_/<>]+)`", METRICS, re.MULTILINE)
    choices = {"<split>": "train|test|ood", "<protocol>": "[a-z]+-[a-z]+", "<i>": r"\d+"}
    for placeholder, choice in choices.items():
        names = [name.replace(placeholder, f"({choice})") for name in names]
    return re.compile("|".join(names))


def test_every_name_in_the_logs_is_explained(experiment):
    lines = [line for log in experiment.rglob("metrics.jsonl") for line in log.read_text().splitlines()]
    logged = {name for line in lines for name in json.loads(line)}
    assert {"step", "train/q_loss", "val/return_test_task_0"} <= logged
    assert not {name for name in logged if not documented().fullmatch(name)}


def test_the_explained_losses_are_those_of_the_methods_and_hooks():
    """A hook named x logs ``x_loss``, or ``x_<term>_loss`` for each of several terms."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "mbml_lightning/algorithms").glob("*.py")]
    configured = [yaml.safe_load(path.read_text()) for path in (ROOT / "conf").rglob("*.yaml")]
    hooks = {name for file in configured if "model" in file for name in file["model"]["init_args"].get("hooks") or {}}
    written = {name for source in sources for name in re.findall(r'"([a-z_]+_loss)"', source)}
    explained = set(re.findall(r"`train/([a-z_]+_loss)`", METRICS))
    of_hooks = {name: {loss for loss in explained if loss.startswith(f"{name}_")} for name in hooks}
    assert all(of_hooks.values()), "every hook is explained"
    assert explained == written.union(*of_hooks.values())


def test_the_layout_names_every_room_and_none_stands_above_one_that_it_imports():
    block = re.search(r"^mbml_lightning/\n((?:  .*\n)+)", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE)
    listed = re.findall(r"^  (\w+)", block[1], re.MULTILINE)
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    floor = {room: -i for i, layer in enumerate(contract[0]["layers"]) for room in re.findall(r"\w+", layer)}
    assert sorted(listed) == sorted(floor)
    assert [floor[room] for room in listed] == sorted(floor.values())


def test_the_readmes_python_runs(experiment, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
    assert code.count("runs/UmazeGoalM-laptop/mbml/seed-0") == 1
    code = code.replace("runs/UmazeGoalM-laptop", str(experiment)).replace("UmazeGoalM", "PointGoal")
    exec(compile(code, "README.md", "exec"), {})
    returns = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(returns) == 5 and all(-40 < total < 0 for total in returns)


def test_the_readme_is_short():
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 165
