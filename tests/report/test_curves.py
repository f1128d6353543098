import numpy as np
import pytest
from run_folders import GOALS, LEVELS, OTHERS, write_run

from mbml_lightning.report import curves as pictures
from mbml_lightning.report import drawing, style
from mbml_lightning.report import paths as plane
from mbml_lightning.results.runs import read_experiment


@pytest.fixture
def experiment(tmp_path):
    for method in LEVELS:
        write_run(tmp_path, method)
    return tmp_path


def test_learning_curves_show_what_was_logged(experiment):
    methods = read_experiment([experiment]).methods
    axes = pictures.learning_curves(methods, "test").axes[0]
    (mbml,) = (line for line in axes.lines if line.get_color() == style.COLOURS["mbml"])
    np.testing.assert_array_equal(mbml.get_xydata(), [[s, s / 40] for s in (1000, 2000, 3000, 4000)])
    references = sorted(line.get_ydata()[0] for line in axes.lines if line.get_color() == style.COLOURS["bcq"])
    assert references == pytest.approx([22.5, 203.0, 213.0])  # random on unseen tasks, the others on their own


def test_names_beside_lines_do_not_overlap_and_keep_their_order(experiment):
    axes = pictures.losses(read_experiment([experiment]).methods).axes[0]  # the triplet loss ends at 0: no logarithm
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["triplet"] < heights["KL"] < heights["Q"]
    _, axes = drawing.panel("x", "y")
    axes.plot([0, 1], [0, 1])
    drawing.label_ends(axes, [drawing.End(y, str(y), "k") for y in (0.5, 0.51, 0.49, 0.505)])
    placed = sorted((text.get_position()[1], text.get_text()) for text in axes.texts)
    assert [name for _, name in placed] == ["0.49", "0.5", "0.505", "0.51"]
    assert min(np.diff([height for height, _ in placed])) > 0.065


def test_any_number_of_names_finds_room():
    heights = np.sort(np.random.default_rng(0).uniform(0.4, 0.6, size=14))
    places = drawing.spread(heights, 0.06)
    assert places.min() >= 0 and places.max() <= 1 and np.diff(places).min() >= 0.06 - 1e-9
    assert drawing.spread(np.array([0.1, 0.5, 0.9]), 0.06) == pytest.approx([0.1, 0.5, 0.9])
    assert drawing.spread(np.array([0.0, 0.0, 1.0]), 0.1) == pytest.approx([0.0, 0.1, 1.0])


def test_pictures_of_many_methods_leave_out_seeds_and_show_a_table_of_tasks(experiment):
    for method in OTHERS:
        for seed in (0, 1):
            write_run(experiment, method, seed)
    methods = read_experiment([experiment]).methods
    curves = pictures.learning_curves(methods, "test").axes[0]
    assert len(curves.lines) == 7 + 3  # a mean each, and the references
    cells = [text.get_text() for text in pictures.per_task(methods, "test").axes[0].texts]
    assert cells[:2] == ["172", "57"] and len(cells) == 2 * 8  # MBML and Contextual BCQ on the first task


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
