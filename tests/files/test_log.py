import json
import math

import pytest

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.log import Metrics, log_line


def write(tmp_path, lines, end="\n"):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end)
    return path


def test_curves_by_name_and_step(tmp_path):
    path = write(tmp_path, [{"step": 20, "time": 2.0, "a": 5}, {"step": 10, "time": 1.0, "a": 4.5, "b": 1}])
    metrics = Metrics.load(path)
    assert metrics.curves.keys() == {"a", "b"}
    assert metrics.curves["a"].steps.tolist() == [10, 20]
    assert metrics.curves["a"].values.tolist() == [4.5, 5.0]
    assert metrics.problems == []


def test_the_last_of_a_repeated_step_counts(tmp_path):
    path = write(tmp_path, [{"step": 10, "a": 1.0}, {"step": 20, "a": 2.0}, {"step": 10, "a": 3.0}])
    assert Metrics.load(path).curves["a"].values.tolist() == [3.0, 2.0]


def test_a_last_line_cut_short_is_no_problem(tmp_path):
    metrics = Metrics.load(write(tmp_path, [{"step": 10, "a": 1.0}, '{"step": 20, "a'], end=""))
    assert metrics.curves["a"].steps.tolist() == [10]
    assert metrics.problems == []


@pytest.mark.parametrize("line", ['{"step": 2{"step": 3}', "[]", '{"a": 1}', '{"step": 1, "a": null}', '{"step": -1}'])
def test_another_damaged_line_is_named(tmp_path, line):
    metrics = Metrics.load(write(tmp_path, [{"step": 10, "a": 1.0}, line, {"step": 30, "a": 3.0}]))
    assert metrics.curves["a"].steps.tolist() == [10, 30]
    (problem,) = metrics.problems
    assert "metrics.jsonl: line 2 is damaged" in problem


def test_a_diverged_loss_is_kept(tmp_path):
    values = Metrics.load(write(tmp_path, ['{"step": 1, "a": NaN}', '{"step": 2, "a": Infinity}'])).curves["a"].values
    assert math.isnan(values[0]) and values[1] == math.inf


def test_time_of_training_leaves_out_evaluations_and_pauses(tmp_path):
    """Half a second an update, an evaluation of 100 s at step 40, and a night before the run was resumed."""
    times = {10: 5.0, 20: 10.0, 30: 15.0, 40: 20.0, 50: 125.0, 60: 130.0, 70: 9999.0, 80: 10004.0}
    lines = [{"step": step, "time": time, "a": 0.0} for step, time in times.items()]
    lines.insert(4, {"step": 40, "time": 120.0, "val/return": 1.0})
    assert Metrics.load(write(tmp_path, lines)).seconds == pytest.approx(40)


@pytest.mark.parametrize("lines", [[], [{"step": 5, "time": 1.0}], [{"step": 5, "a": 1.0}, {"step": 6, "a": 1.0}]])
def test_time_that_is_not_told(tmp_path, lines):
    assert math.isnan(Metrics.load(write(tmp_path, lines)).seconds)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ResultsError, match=r"metrics\.jsonl: cannot be read"):
        Metrics.load(tmp_path / "metrics.jsonl")


def test_a_changed_byte_of_a_logged_line_is_noticed(tmp_path):
    lines = [log_line({"step": step, "time": 1.5, "train/q_loss": 0.1234567 / step}).rstrip() for step in (10, 20)]
    whole = Metrics.load(write(tmp_path, lines))
    assert whole.curves["train/q_loss"].values.tolist() == [0.1234567 / 10, 0.1234567 / 20]
    assert whole.curves.keys() == {"train/q_loss"} and not whole.problems
    end = lines[0].index(', "crc32"')
    for place in range(end):
        for bit in range(7):
            changed = lines[0][:place] + chr(ord(lines[0][place]) ^ 1 << bit) + lines[0][place + 1 :]
            metrics = Metrics.load(write(tmp_path, [changed, lines[1]]))
            assert metrics.curves["train/q_loss"].steps.tolist() == [20] and metrics.problems
