import csv
import json

import numpy as np
import pytest
from run_folders import write_run

from mbml_lightning.cli.main import main
from mbml_lightning.errors import ResultsError
from mbml_lightning.report.comparison_figure import draw
from mbml_lightning.report.figures import FIGURES, paper_figure
from mbml_lightning.report.figures import Figure as PaperFigure
from mbml_lightning.results.methods import METHODS
from mbml_lightning.results.runs import read_experiment


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_figure_is_written_with_its_numbers_and_the_same_each_time(tmp_path, capsys):
    for method in ("mbml", "no_triplet", "random"):
        write_run(tmp_path, method)
    main(["report", str(tmp_path), "--figure", "6"])
    folder = tmp_path / "figures"
    assert {path.name for path in folder.iterdir()} == {
        "fig6.png", "fig6.svg", "fig6.csv", "fig6.md", "fig6-curves.csv"
    }  # fmt: skip
    assert "No relabelling and Neither not evaluated" in capsys.readouterr().out
    assert [row["method"] for row in read(folder / "fig6.csv")] == ["mbml", "no_triplet"]
    rows = [row for row in read(folder / "fig6-curves.csv") if row["method"] == "mbml"]
    assert [(row["seed"], row["updates"], row["task"], float(row["return"])) for row in rows[2:4]] == [
        ("0", "2000", "0", 50.0), ("0", "2000", "1", 60.0)
    ]  # fmt: skip
    before = (folder / "fig6.svg").read_bytes()
    paper_figure([tmp_path], 6, tmp_path / "again.png")
    assert (tmp_path / "again.svg").read_bytes() == before


def test_the_band_is_one_deviation_over_tasks_of_the_mean_over_seeds(tmp_path):
    """Task i returns step / 40 + 10 i in every seed but for its own, opposite, luck."""
    for seed, luck in ((0, 30.0), (1, -30.0)):
        path = write_run(tmp_path, "mbml", seed) / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()[:-1]]
        for line in lines:
            line["val/return_test_task_0"] += luck
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    left, right = draw(read_experiment([tmp_path]).methods, {"mbml": "MBML"}).axes
    mean = np.array([30.0, 55.0, 80.0, 105.0])
    np.testing.assert_allclose(left.lines[0].get_ydata(), mean)
    heights = left.collections[0].get_paths()[0].vertices[:, 1]
    assert sorted(set(heights.round(6))) == sorted({*(mean - 5), *(mean + 5)})
    assert right.lines[0].get_xdata() == [177.5]  # the final score: levels of both seeds, 10 apart


def test_figures_without_their_methods_are_refused_in_one_line(tmp_path):
    write_run(tmp_path, "mbml")
    for number, missing in ((12, "No ensemble"), (4, "Contextual BCQ and PEARL"), (7, "val/relabelling_error and ")):
        with pytest.raises(ResultsError, match=missing):
            paper_figure([tmp_path], number)
    with pytest.raises(ResultsError, match="choose one of 4, 6, 7, 11, 12"):
        paper_figure([tmp_path], 5)


def test_relabelling_errors_are_those_of_the_ensembles(tmp_path):
    for seed in (0, 1):
        folder = tmp_path / "reward_ensemble" / f"seed-{seed}"
        folder.mkdir(parents=True)
        line = {"step": 100, "time": 1.0, "val/relabelling_error": 0.2 + 0.2 * seed, "val/kept_fraction": 0.5}
        (folder / "metrics.jsonl").write_text(json.dumps(line | {"val/relabelling_error_single": 0.6}) + "\n")
    paper_figure([tmp_path], 7, tmp_path / "errors.png")
    last = {row["metric"]: (float(row["value"]), row["seeds"]) for row in read(tmp_path / "errors.csv")}
    assert last["val/relabelling_error"] == (pytest.approx(0.3), "2")
    assert last["val/relabelling_error_single"] == (pytest.approx(0.6), "2")
    assert "One network, all rows | 2 | 100 | 0.6000" in (tmp_path / "errors.md").read_text()
    assert [row["value"] for row in read(tmp_path / "errors-curves.csv")[:2]] == ["0.2", "0.4"]


def test_a_figure_from_outside_needs_a_module_and_a_card(tmp_path, monkeypatch):
    write_run(tmp_path, "mbml")
    (tmp_path / "own_figure.py").write_text(
        "from matplotlib.figure import Figure\n"
        "from mbml_lightning.report.figures import Drawn\n"
        "def make(figure, runs):\n"
        "    return Drawn(Figure, f'{figure.number}\\n', figure.title, 'curves\\n', [])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FIGURES, 99, PaperFigure(99, "a figure of our own", "own_figure"))
    paper_figure([tmp_path], 99)
    written = {path.name: path for path in (tmp_path / "figures").iterdir()}
    assert sorted(written) == ["fig99-curves.csv", "fig99.csv", "fig99.md", "fig99.png", "fig99.svg"]
    assert (written["fig99.csv"].read_text(), written["fig99.md"].read_text()) == ("99\n", "a figure of our own")


def test_every_figure_compares_what_its_methods_say():
    stands = {number: [method.name for method in figure.methods] for number, figure in FIGURES.items()}
    references = ["bcq", "sac", "sac_test", "sac_ood", "random"]
    assert stands == {
        4: ["mbml", "contextual_bcq", "pearl", *references],
        6: ["mbml", "no_relabelling", "no_triplet", "neither", "ground_truth"],
        7: ["reward_ensemble"],
        11: ["margin_0", "mbml", "margin_4", "margin_8"],
        12: ["mbml", "no_ensemble"],
    }
    assert {number for method in METHODS.values() for number in method.figures} == FIGURES.keys()
