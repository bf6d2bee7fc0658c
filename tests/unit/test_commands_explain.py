"""`streamcore explain`."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.cli import main


def test_explains_a_file_and_a_pipeline_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[source]\ntype = "kafka"\ntopic = "t"\n[[steps]]\nfilter = "a > 1"\n')
    assert main(["explain", str(file), "--set", "source.topic=u"]) == 0
    out = capsys.readouterr().out
    assert "source kafka topic u" in out
    assert "a > 1" in out
    module = tmp_path / "explained_pipeline.py"
    module.write_text('import streamcore as sc\n\npages = sc.kafka("v").filter("b > 2")\n')
    assert main(["explain", f"{module}:pages"]) == 0
    assert "source kafka topic v" in capsys.readouterr().out


def test_a_mistake_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[source]\ntype = "kafka"\ntopic = "t"\n[[steps]]\nfilter = "a = 1"\n')
    assert main(["explain", str(file)]) == 3
    err = capsys.readouterr().err
    assert "5:1: steps[0].filter" in err
    assert "      ^" in err
