"""The demo without make: the workflow's target, its end, and the report."""

import sys
from pathlib import Path

import pytest
from commands import ROOT

from mbml_lightning.cli import demo
from mbml_lightning.cli.main import main


class Workflow:
    """A process that is interrupted from the keyboard while it ends its runs in order."""

    def __init__(self, words, env):
        self.words, self.env, self.waits = words, env, 0
        Workflow.last = self

    def wait(self):
        self.waits += 1
        if self.waits < 3:
            raise KeyboardInterrupt
        return 130


def test_an_interrupt_waits_for_the_workflow_and_ends_with_its_code(monkeypatch, tmp_path):
    monkeypatch.setattr(demo.subprocess, "Popen", Workflow)
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--task=point_goal", "--scale=tiny", "--seeds=0,1", f"--runs={tmp_path}", "--cores=3"])
    words = Workflow.last.words
    assert stop.value.code == 130 and Workflow.last.waits == 3
    assert words[:5] == [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow/Snakefile")]
    assert words[words.index("--cores") + 1] == "3"
    expected = ["task=point_goal", "scale=tiny", "seeds=0,1", f"runs={tmp_path}", "--", "demo"]
    assert words[words.index("--config") + 1 :] == expected
    assert Workflow.last.env["PATH"].startswith(str(Path(sys.executable).parent))


def test_without_snakemake_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"mbml demo runs on Snakemake: pip install 'mbml-lightning\[workflow\]'"):
        main(["demo"])


@pytest.mark.nightly
def test_the_demo_ends_with_a_report(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["demo", "--task=point_goal", "--scale=tiny", "--cores=2"])
    assert (tmp_path / "runs/PointGoal-tiny/report.html").is_file()
    assert "MBML" in capfd.readouterr().out
