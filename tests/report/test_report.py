import base64
import csv
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from commands import ROOT
from matplotlib.figure import Figure
from run_folders import EPISODES, GOALS, LEVELS, returns_of, write_run

from mbml_lightning.envs import distribution
from mbml_lightning.errors import ResultsError
from mbml_lightning.files.evaluation import Evaluation, Split
from mbml_lightning.report.report import report
from mbml_lightning.report.tables import duration
from mbml_lightning.results.normalisation import table
from mbml_lightning.results.runs import read_experiment


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: file.write(b"png"))


@pytest.fixture
def experiment(tmp_path):
    for method in LEVELS:
        write_run(tmp_path, method)
    return tmp_path


def read_csv(root):
    with (root / "report.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


class Page(HTMLParser):
    """Counts tags, and fails on those that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_table_equals_a_hand_computation(experiment, without_pictures):
    report([experiment])
    rows = read_csv(experiment)
    assert list(rows) == ["mbml", "neither", "bcq", "sac", "random"]
    for method, row in rows.items():
        # Tasks are 0, 1, (2) above the level, half of the trials 4 above that.
        assert float(row["train_mean"]) == pytest.approx(LEVELS[method] + 1.0 + 2.0)
        assert float(row["train_low"]) < float(row["train_mean"]) < float(row["train_high"])
        if method in ("bcq", "sac"):
            assert row["test_mean"] == row["test_low"] == row["test_high"] == ""
        else:
            assert float(row["test_mean"]) == pytest.approx(LEVELS[method] + 0.5 + 2.0)
        assert (row["seeds"], row["updates"], float(row["training_seconds"])) == ("1", "4000", 90.0)
    assert "| MBML | 172.5 [172.0, 173.0] | - | 173.0 [" in (experiment / "report.md").read_text()


def test_scores_on_official_tasks_are_normalised(tmp_path, without_pictures, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    goals = distribution("UmazeGoalM").tasks("test")[:2].tolist()
    write_run(tmp_path, "mbml", splits={"test": Split(goals, returns_of("mbml", 0, "test"))})
    entry = {"random": {"test": [10.0, 20.0]}, "sac": {"mean": 210.0, "source": "by hand"}}
    monkeypatch.setitem(table(), "UmazeGoalM", entry)
    report([tmp_path])
    # The tasks return 172 and 173.
    assert float(read_csv(tmp_path)["mbml"]["normalised_mean"]) == pytest.approx(50 * (162 / 200 + 153 / 190))
    assert "0 is random and 100 SAC (by hand)" in (tmp_path / "report.html").read_text()
    shown = capsys.readouterr().out
    assert "normalised (0 is random, 100 SAC): MBML 81" in shown and "…" not in shown


def test_seeds_are_averaged(tmp_path, without_pictures):
    for seed in (0, 1, 2):
        write_run(tmp_path, "mbml", seed, step=4000 + 1000 * (seed == 2))
    report([tmp_path])
    row = read_csv(tmp_path)["mbml"]
    assert float(row["test_mean"]) == pytest.approx(170 + 0.5 + 2 + 10)
    assert float(row["test_high"]) - float(row["test_low"]) > 10  # seeds are 10 apart, tasks 1
    assert (row["seeds"], row["updates"]) == ("3", "4000/5000")


def test_page_is_whole_and_self_contained(experiment, capsys):
    report([experiment])
    html = (experiment / "report.html").read_text()
    parsed = Page(html)
    for label in ("MBML", "Neither", "BCQ", "SAC", "Random"):
        assert f"<td>{label}<small>" in html
    assert "On 2 unseen tasks of UmazeGoalM, MBML returns 172.5 (95% interval 172.0 to 173.0), Neither 92.5" in html
    assert "BCQ 203.0 and SAC 213.0." in html
    assert parsed.tags.count("img") == 10 and html.count("Not drawn") == 1  # no posteriors were kept
    assert "mbml fit &lt;neither&gt;" in html  # escaped
    assert not re.findall(r"https?://", html)
    for name, value in parsed.attributes:
        if name in ("src", "srcset"):
            assert base64.b64decode(value.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    output = capsys.readouterr().out
    assert "172.5 [172.0, 173.0]" in output and "report.html" in output.replace("\n", "") and "warning" not in output


def test_a_report_does_without_lightning(tmp_path):
    write_run(tmp_path, "mbml")
    code = (
        "import sys; from pathlib import Path; from mbml_lightning.report.report import report\n"
        f"report([Path({str(tmp_path)!r})])\n"
        "print('lightning' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout.endswith("\nFalse\n"), ended.stderr


def test_missing_pieces_are_said(tmp_path, without_pictures, capsys):
    folder = write_run(tmp_path, "mbml")
    (folder / "metrics.jsonl").unlink()
    (folder / "trajectories.npz").unlink()
    (write_run(tmp_path, "neither") / "evaluation.json").unlink()
    (write_run(tmp_path, "mbml", seed=1) / "evaluation.json").unlink()
    report([tmp_path])
    html = (tmp_path / "report.html").read_text()
    assert "Not drawn: there is no trajectories.npz" in html
    assert "not finished" in html
    assert "<td>1 of 2</td>" in html
    assert read_csv(tmp_path)["neither"]["seeds"] == "0"
    assert "warning" not in capsys.readouterr().out


def test_damaged_files_are_named_not_a_traceback(experiment, without_pictures, capsys):
    damaged = [experiment / "neither/seed-0/evaluation.json", experiment / "mbml/seed-0/trajectories.npz"]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:100])
    metrics = experiment / "mbml/seed-0/metrics.jsonl"
    metrics.write_text('{"step": 1, "a": 1.0}\n{"st\n{"step": 2, "a": 1.0}\n')
    report([experiment])
    output, html = capsys.readouterr().out, (experiment / "report.html").read_text()
    for path in [*damaged, metrics]:
        assert f"warning: {path}: " in output
        assert f"<li>{path}: " in html
    assert read_csv(experiment)["mbml"]["test_mean"] == "172.5"


def test_nothing_evaluated_yet(tmp_path, without_pictures):
    (write_run(tmp_path, "mbml") / "evaluation.json").unlink()
    (tmp_path / "mbml/seed-0/metrics.jsonl").write_text("")
    report([tmp_path / "mbml"], tmp_path / "elsewhere" / "page.html")
    html = (tmp_path / "elsewhere" / "page.html").read_text()
    assert "No method has been evaluated" in html
    for missing in ("val/return_test", "train/*_loss of MBML"):
        assert f"Not drawn: there is no {missing}" in html
    assert (tmp_path / "elsewhere" / "page.csv").exists()


def read_statistics(root):
    with (root / "statistics.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_statistics_equal_a_hand_computation(experiment, without_pictures):
    report([experiment])
    rows = read_statistics(experiment)
    assert list(rows) == ["mbml", "neither", "random"]
    mbml, neither = rows["mbml"], rows["neither"]
    assert float(mbml["mean"]) == float(mbml["iqm"]) == 172.5 and (mbml["seeds"], mbml["tasks"]) == ("1", "2")
    assert [float(mbml[name]) for name in ("final", "best", "chosen_on_train")] == [105.0] * 3
    # Means before 4,000 are 30, 55 and 80 on average; tasks are 10 apart.
    assert [float(mbml[f"paper_{name}"]) for name in ("statistic", "spread", "step")] == [55.0, 5.0, 4000]
    assert float(mbml["reward_sensitivity"]) == 0.8 and float(mbml["rewards_followed"]) == 0.5
    assert mbml["difference"] == mbml["probability_of_improvement"] == ""
    assert float(neither["difference"]) == 80.0 and float(neither["probability_of_improvement"]) == 1.0
    shown = (experiment / "statistics.md").read_text()
    assert "P(MBML better)" in shown and "| Neither | 92.5 [" in shown and "- Best in training: " in shown


def test_context_protocols_stand_side_by_side(tmp_path, without_pictures):
    for method in ("mbml", "neither"):
        write_run(tmp_path, method)
    returns = returns_of("neither", 0, "test")
    folder, fields = tmp_path / "mbml/seed-0", {**vars(Evaluation.load(tmp_path / "mbml/seed-0/evaluation.json"))}
    fields |= {"protocol": "offline-own", "splits": {"test": Split(GOALS["test"], returns[..., 2:])}}
    Evaluation(**fields | {"episodes": 3, "uncounted": 0}).save(folder / "evaluation-offline-own.json")
    Evaluation(**fields | {"episodes": 3, "uncounted": 0}).save(folder / "evaluation-random-first.json")
    report([tmp_path])
    html = (tmp_path / "report.html").read_text()
    cells = ["MBML", "172.5 [172.0, 173.0]", "92.5 [92.0, 93.0]", "-", "-"]
    assert "".join(f"<td>{cell}</td>" for cell in cells) in html
    assert "<td>Neither</td><td>92.5 [92.0, 93.0]</td><td>-</td><td>-</td><td>-</td>" in html
    assert "evaluation-random-first.json: protocol is offline-own, not random-first; left out" in html
    assert read_csv(tmp_path)["mbml"]["test_mean"] == "172.5"  # not mixed


def test_methods_stand_in_the_order_of_the_names(tmp_path):
    for method in ("random", "unknown", "margin_0", "neither", "pearl", "mbml", "sac"):
        write_run(tmp_path, method)
    names = [method.name for method in read_experiment([tmp_path]).methods]
    assert names == ["mbml", "pearl", "neither", "margin_0", "unknown", "sac", "random"]


@pytest.mark.parametrize("changes", [{"horizon": 9}, {"episodes": 4, "uncounted": 1}, {"uncounted": 1}])
def test_evaluations_that_measured_something_else_are_left_out(tmp_path, changes):
    write_run(tmp_path, "mbml")
    episodes = changes.get("episodes", EPISODES)
    splits = {split: Split(GOALS[split], returns_of("neither", 0, split)[..., :episodes]) for split in GOALS}
    other = write_run(tmp_path, "neither") / "evaluation.json"
    (other.parent / "trajectories.npz").unlink()
    evaluation = Evaluation.load(other)
    Evaluation(**{**vars(evaluation), "splits": splits, **changes}).save(other)
    result = read_experiment([tmp_path])
    (problem,) = result.problems
    assert str(other) in problem and next(iter(changes)) in problem
    assert [len(method.evaluations) for method in result.methods] == [1, 0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"horizon": 9}, "horizon is 9, but 12 in the first evaluation"),
        ({"trials": 2, "uncounted": 1}, "uncounted is 1, but 0 in the first evaluation"),
        (
            {"splits": {"test": Split(GOALS["test"][::-1], returns_of("mbml", 0, "test"))}},
            "the test tasks are not those",
        ),
    ],
)
def test_evaluations_under_a_protocol_are_compared_with_the_first_of_it(tmp_path, changes, reason):
    """Two methods agree under the paper's protocol; under another one the second is not comparable."""
    for method, more in (("mbml", {}), ("neither", changes)):
        folder = write_run(tmp_path, method)
        fields = {**vars(Evaluation.load(folder / "evaluation.json"))} | {"protocol": "offline-own", "uncounted": 0}
        Evaluation(**fields | more).save(folder / "evaluation-offline-own.json")
    result = read_experiment([tmp_path])
    (problem,) = result.problems
    assert problem.startswith(f"{tmp_path}/neither/seed-0/evaluation-offline-own.json: {reason}")
    assert problem.endswith("; left out, evaluate again")
    assert [len(method.under("offline-own")) for method in result.methods] == [1, 0]
    assert [len(method.evaluations) for method in result.methods] == [1, 1]


def test_other_tasks_cannot_be_compared(tmp_path):
    write_run(tmp_path, "mbml")
    write_run(tmp_path, "bcq", splits={"train": Split(GOALS["train"][::-1], returns_of("bcq", 0, "train"))})
    (problem,) = read_experiment([tmp_path]).problems
    assert "bcq/seed-0/evaluation.json: the train tasks are not those" in problem


def test_several_experiments_at_once_are_refused(tmp_path):
    write_run(tmp_path / "a", "mbml")
    write_run(tmp_path / "b", "mbml")
    with pytest.raises(ResultsError, match=r"a/mbml/seed-0 and .*b/mbml/seed-0 are both seed-0 of mbml"):
        report([tmp_path])
    with pytest.raises(ResultsError, match="PointGoal, UmazeGoalM"):
        write_run(tmp_path / "b", "sac", distribution="PointGoal")
        report([tmp_path / "a", tmp_path / "b" / "sac"])


def test_the_same_folder_twice_is_one_run(tmp_path):
    write_run(tmp_path, "mbml")
    assert len(read_experiment([tmp_path, tmp_path / "mbml"]).methods[0].runs) == 1


def test_nothing_to_report_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="no run"):
        report([tmp_path])
    with pytest.raises(ResultsError, match="no such folder"):
        report([tmp_path / "missing"])


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (59.4, "59 s"), (60.0, "1.0 min"), (5400.0, "1.5 h"), (0.2, "0 s")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_methods_that_learned_from_other_data_are_left_out(tmp_path, without_pictures):
    made = {"weights": "w" * 64, "parents": {"teachers": "t" * 64}}
    for method, data in (("mbml", "a" * 64), ("neither", "b" * 64)):
        write_run(tmp_path, method, made_of=made | {"data": data, "config": {"run": "somewhere"}})
    for seed, method in ((1, "mbml"), (1, "neither")):
        write_run(tmp_path, method, seed, made_of=made | {"data": "c" * 64})
    write_run(tmp_path, "random")
    report([tmp_path])
    html = (tmp_path / "report.html").read_text()
    told = "neither/seed-0/evaluation.json: was trained on other data (SHA-256 bbbbbbbbbbbb) than other methods"
    assert told in html and html.count("was trained on other data") == 1
    assert f"SHA-256 of parents.teachers</td><td>{'t' * 64}" in html and "somewhere" not in html
