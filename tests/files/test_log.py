import json
import math

import pytest

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.log import LogFile, Metrics


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


def test_a_log_is_appended_to_after_a_partial_line(tmp_path):
    """A killed run leaves half a line at most; the resumed one begins a new one."""
    path = tmp_path / "run/metrics.jsonl"
    log = LogFile(path)
    log.append(10, {"a": 1.0, "b": math.nan})
    log.close()
    path.write_text(path.read_text() + '{"step": 20, "a": 2')
    log.append(30, {"a": 3.0})
    log.append(40, {"a": 4.0})
    log.close()
    metrics = Metrics.load(path)
    assert metrics.curves["a"].steps.tolist() == [10, 30, 40]
    assert metrics.curves["a"].values.tolist() == [1.0, 3.0, 4.0]
    assert math.isnan(metrics.curves["b"].values[0])
    (problem,) = metrics.problems
    assert "line 2 is damaged" in problem


def test_lines_with_the_checksum_of_earlier_versions_are_read(tmp_path):
    lines = ['{"step": 10, "time": 1.5, "a": 0.5, "crc32": "0c2f4a3d"}', {"step": 20, "time": 3.0, "a": 0.25}]
    metrics = Metrics.load(write(tmp_path, lines))
    assert metrics.curves.keys() == {"a"} and metrics.curves["a"].values.tolist() == [0.5, 0.25]
    assert not metrics.problems and metrics.seconds == pytest.approx(3.0)
