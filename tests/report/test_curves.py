import numpy as np
import pytest
from run_folders import GOALS, LEVELS, OTHERS, write_run

from mbml_lightning.report import curves as pictures
from mbml_lightning.report import drawing
from mbml_lightning.report import paths as plane
from mbml_lightning.results.methods import METHODS
from mbml_lightning.results.runs import read_experiment


@pytest.fixture
def experiment(tmp_path):
    for method in LEVELS:
        write_run(tmp_path, method)
    return tmp_path


def test_learning_curves_show_what_was_logged(experiment):
    methods = read_experiment([experiment]).methods
    axes = pictures.learning_curves(methods, "val/return_test", "mean return", "test").axes[0]
    (mbml,) = (line for line in axes.lines if line.get_color() == METHODS["mbml"].colour)
    np.testing.assert_array_equal(mbml.get_xydata(), [[s, s / 40] for s in (1000, 2000, 3000, 4000)])
    references = sorted(line.get_ydata()[0] for line in axes.lines if line.get_color() == METHODS["bcq"].colour)
    assert references == pytest.approx([22.5, 203.0, 213.0])  # random on unseen tasks, the others on their own


def names_of(axes):
    """The names beside the lines from top to bottom, and their boxes in pixels."""
    axes.figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.get_legend().get_texts()}
    return sorted(boxes, key=lambda name: -boxes[name].y0), boxes


def test_long_names_leave_room_for_the_curves(tmp_path):
    """A sweep that names many arguments used to push all axes out of the picture."""
    name = f"mbml,evaluation.trials=2,data.store=_home_{'x' * 50},model.lr="
    for end in ("0.1", "0.01"):
        LEVELS[name + end] = 170.0
        write_run(tmp_path, name + end)
        del LEVELS[name + end]
    methods = read_experiment([tmp_path]).methods
    split = "val/return_test", "mean return", "test"
    for figure in (pictures.learning_curves(methods, *split), pictures.losses(methods), pictures.episodes(methods),
                   pictures.per_task(methods, "test")):  # fmt: skip
        figure.draw_without_rendering()
        boxes = [axes.get_position() for axes in figure.axes if axes.axison]
        assert min(min(box.width, box.height) for box in boxes) > 0.2, boxes
    assert drawing.in_lines("Multi-task BC") == "Multi-task BC"
    assert drawing.in_lines("mbml,model.lr=0.1,model.margin=4").splitlines() == [
        "mbml, model.lr=0.1,",
        "model.margin=4",
    ]


def test_names_beside_lines_do_not_overlap_and_keep_their_order(experiment):
    (axes,) = pictures.losses(read_experiment([experiment]).methods[:1]).axes  # the triplet loss ends at 0
    assert names_of(axes)[0] == ["Q", "KL", "triplet"]
    figure, axes = drawing.panel("x", "y")
    ends = np.random.default_rng(0).permutation(np.linspace(0.4, 0.6, 25))
    for end in ends:
        axes.plot([0, 1], [0, end], label=f"{end:.4f}")
    drawing.name_lines(axes)
    names, boxes = names_of(axes)
    assert names == [f"{end:.4f}" for end in sorted(ends, reverse=True)]
    bottoms, tops = [boxes[name].y0 for name in names], [boxes[name].y1 for name in names]
    assert all(below < bottom for bottom, below in zip(bottoms[:-1], tops[1:], strict=True))
    assert bottoms[-1] > 0 and tops[0] < figure.bbox.height
    assert min(box.x0 for box in boxes.values()) > axes.get_window_extent().x1


def test_losses_are_drawn_of_every_method_that_logged_some(tmp_path):
    for method in ("unknown", "margin_0", "bcq"):
        write_run(tmp_path, method)
    (write_run(tmp_path, "random") / "metrics.jsonl").write_text("")
    methods = read_experiment([tmp_path]).methods
    panels = pictures.losses(methods).axes
    assert [axes.get_title() for axes in panels] == ["Margin 0", "unknown", "BCQ"]
    for axes in panels:
        q = next(line for line in axes.lines if line.get_label() == "Q")
        np.testing.assert_array_equal(q.get_xydata(), [[s, 5000 / s] for s in (1000, 2000, 3000, 4000)])
    assert pictures.losses(methods[-1:]) is None


def test_pictures_of_many_methods_leave_out_seeds_and_show_a_table_of_tasks(experiment):
    for method in OTHERS:
        for seed in (0, 1):
            write_run(experiment, method, seed)
    methods = read_experiment([experiment]).methods
    curves = pictures.learning_curves(methods, "val/return_test", "mean return", "test").axes[0]
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
