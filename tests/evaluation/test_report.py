import base64
import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from mbml_lightning.envs import distribution
from mbml_lightning.evaluation import page, pictures, plane
from mbml_lightning.evaluation.experiment import read_experiment
from mbml_lightning.evaluation.normalisation import table
from mbml_lightning.evaluation.report import report
from mbml_lightning.evaluation.results import Evaluation, ResultsError, Split, save_trajectories

GOALS = {"train": [[0.5, 1.4], [2.9, 1.2], [2.5, 1.7]], "test": [[0.6, 1.5], [2.8, 1.5]]}
LEVELS = {"mbml": 170.0, "neither": 90.0, "bcq": 200.0, "sac": 210.0, "random": 20.0}
HORIZON, EPISODES = 12, 5


def returns_of(method, seed, split):
    """Two trials a task; the two uncounted episodes are far from the others, so that counting them would show."""
    counted = LEVELS[method] + np.arange(len(GOALS[split]))[:, None, None] + 10.0 * seed
    returns = np.broadcast_to(counted, (len(GOALS[split]), 2, EPISODES)).copy()
    returns[:, 1] += 4.0
    returns[:, :, :2] = -500.0
    return returns


def write_run(root, method, seed=0, **changes):
    folder = root / method / f"seed-{seed}"
    folder.mkdir(parents=True)
    names = ["train"] if method in ("bcq", "sac") else ["train", "test"]
    fields = dict(
        method=method,
        distribution="UmazeGoalM",
        env_id="mbml/UmazeGoalM-v0",
        seed=seed,
        step=4000,
        protocol="prior-online",
        horizon=HORIZON,
        episodes=EPISODES,
        uncounted=2,
        trials=2,
        splits={split: Split(GOALS[split], returns_of(method, seed, split)) for split in names},
        made_by={"command": f"mbml fit <{method}>", "versions": {"torch": "2.13"}, "wall_clock": {"training": 90.0}},
    )
    evaluation = Evaluation(**(fields | changes))
    evaluation.save(folder / "evaluation.json")
    shape = (len(GOALS["test"]), EPISODES, HORIZON + 1, 4)
    if "test" in evaluation.splits:
        observations = np.cumsum(np.random.default_rng(0).normal([0.01, -0.02, 0, 0], 0.1, shape), axis=2)
        save_trajectories(folder / "trajectories.npz", {"test": observations})
    lines = [
        {"step": step, "time": step / 10, "val/return_test": step / 40, "val/return_train": step / 30,
         "train/q_loss": 5000 / step, "train/kl_loss": 0.3, "train/triplet_loss": max(0.0, 2 - step / 2000)}
        for step in range(1000, 5000, 1000)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 50')
    return folder


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
    assert parsed.tags.count("img") == 7 and "Not drawn" not in html
    assert "mbml fit &lt;neither&gt;" in html  # escaped
    assert not re.findall(r"https?://", html)
    for name, value in parsed.attributes:
        if name in ("src", "srcset"):
            assert base64.b64decode(value.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    output = capsys.readouterr().out
    assert "172.5 [172.0, 173.0]" in output and "report.html" in output.replace("\n", "") and "warning" not in output


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


def test_learning_curves_show_what_was_logged(experiment):
    methods = read_experiment([experiment]).methods
    axes = pictures.learning_curves(methods, "test").axes[0]
    (mbml,) = (line for line in axes.lines if line.get_color() == pictures.COLOURS["mbml"])
    np.testing.assert_array_equal(mbml.get_xydata(), [[s, s / 40] for s in (1000, 2000, 3000, 4000)])
    references = sorted(line.get_ydata()[0] for line in axes.lines if line.get_color() == pictures.COLOURS["bcq"])
    assert references == pytest.approx([22.5, 203.0, 213.0])  # random on unseen tasks, the others on their own


def test_names_beside_lines_do_not_overlap_and_keep_their_order(experiment):
    axes = pictures.losses(read_experiment([experiment]).methods).axes[0]  # the triplet loss ends at 0: no logarithm
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["triplet"] < heights["KL"] < heights["Q"]
    _, axes = pictures._panel("x", "y")
    axes.plot([0, 1], [0, 1])
    pictures._label_ends(axes, [pictures.End(y, str(y), "k") for y in (0.5, 0.51, 0.49, 0.505)])
    placed = sorted((text.get_position()[1], text.get_text()) for text in axes.texts)
    assert [name for _, name in placed] == ["0.49", "0.5", "0.505", "0.51"]
    assert min(np.diff([height for height, _ in placed])) > 0.065


def test_bars_are_the_scores_of_the_tasks(experiment):
    axes = pictures.per_task(read_experiment([experiment]).methods, "train").axes[0]
    assert [bar.get_width() for bar in axes.containers[0]] == pytest.approx([172, 173, 174])
    assert [bar.get_width() for bar in axes.containers[1]] == pytest.approx([92, 93, 94])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["(0.50, 1.40)", "(2.90, 1.20)", "(2.50, 1.70)"]


def test_episodes_are_drawn_in_the_order_of_acting(experiment):
    axes = pictures.episodes(read_experiment([experiment]).methods).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [-500, -500, 172.5, 172.5, 172.5])


def test_paths_are_those_of_the_goal_above(experiment):
    methods = read_experiment([experiment]).methods
    walls = np.array([[0.0, 0.0, 1.0, 2.0]])
    axes = plane.paths(methods, walls).axes
    assert len(axes) == 2 * 2  # MBML and Neither, two unseen tasks
    path = methods[0].runs[0].trajectories["test"]
    for column, goal in enumerate(GOALS["test"]):
        assert axes[column].get_title() == f"goal ({goal[0]:.2f}, {goal[1]:.2f})"
        *episodes, start, star = axes[column].lines
        for line, episode in zip(episodes, (0, 2, 4), strict=True):
            np.testing.assert_array_equal(line.get_xydata(), path[column, episode, :, :2])
        np.testing.assert_array_equal(start.get_xydata()[0], path[column, 0, 0, :2])
        assert star.get_xydata()[0].tolist() == goal
        assert [text.get_text() for text in axes[column].texts] == ["-500", f"{170 + column}", f"{170 + column}"]
        assert axes[column].patches[0].get_bbox().bounds == (0, 0, 1, 2)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (59.4, "59 s"), (60.0, "1.0 min"), (5400.0, "1.5 h"), (0.2, "0 s")]
)
def test_duration(seconds, text):
    assert page.duration(seconds) == text
