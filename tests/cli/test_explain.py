"""`octavo explain attention`: the table, its JSON, its errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Octavo

SMALL = ("explain", "attention", "--seqlen", "256", "--head-dim", "32", "--heads", "2")


def test_a_gpu_needs_no_gpu(octavo: Octavo) -> None:
    result = octavo("explain", "attention", "--seqlen", "4096", "--head-dim", "64", "--heads", "32", "--device", "a100")
    assert result.code == 0
    assert "NVIDIA A100" in result.out
    lines = {line.strip().split("  ")[0]: line for line in result.out.splitlines()}
    assert max(len(line) for line in result.out.splitlines()[3:15]) <= 80
    assert "memory" in lines["standard"]
    assert "memory" in lines["FlashAttention-2"]
    assert "compute" in lines["keys from L2"]
    assert "compute" in lines["and backward"]
    assert all("memory" in lines[name] for name in ("softmax of scores", "dropout of scores", "LayerNorm", "GELU"))


def test_json_holds_what_the_table_says(octavo: Octavo) -> None:
    report = json.loads(octavo(*SMALL, "--device", "h100", "--dtype", "fp16", "--json").out)
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["standard"]["hbm_bytes"] == 2 * 2 * (4 * 256 * 32 + 4 * 256**2)
    assert rows["FlashAttention-2"]["flops"] == 4 * 2 * 256**2 * 32
    assert rows["FlashAttention-2"]["hbm_bytes"] == 2 * (2 * (2 * 256 * 32 + 2 * 256 * 32 * 2) + 4 * 256)
    assert rows["FlashAttention-2"]["measured_s"] is None
    training = rows["FlashAttention-2 and backward"]
    assert training["flops"] == 14 * 2 * 256**2 * 32
    assert training["hbm_bytes"] == 2 * (2 * 12 * 256 * 32 + 4 * 4 * 256)
    causal = json.loads(octavo(*SMALL, "--device", "h100", "--dtype", "fp16", "--causal", "--json").out)["rows"]
    assert causal[2]["flops"] == 4 * 2 * 32 * 128 * (128 + 256)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_this_cpu_is_measured(dtype: str, octavo: Octavo) -> None:
    report = json.loads(octavo(*SMALL, "--dtype", dtype, "--measure", "--json").out)
    assert all(seconds > 0 for seconds in report["measured_s"].values())
    assert report["rows"][2]["measured_s"] == report["measured_s"]["FlashAttention-2"]
    assert report["rows"][4]["measured_s"] == report["measured_s"]["FlashAttention-2 and backward"]
    assert set(report["measured_s"]) == {
        "standard",
        "FlashAttention-1",
        "FlashAttention-2",
        "torch SDPA",
        "FlashAttention-2 and backward",
        "torch SDPA and backward",
    }
    table = octavo(*SMALL, "--dtype", dtype, "--measure", "--causal").out
    assert "measured" in table
    assert "torch SDPA and backward" in table


def test_a_plot(octavo: Octavo, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "roofline.png"
    drawn = octavo(*SMALL, "--device", "a100", "--plot", str(path))
    assert drawn.code == 0
    assert f"wrote {path}" in drawn.err.replace("\n", "")
    assert path.read_bytes().startswith(b"\x89PNG")
    missing = octavo(*SMALL, "--device", "a100", "--plot", str(tmp_path / "no" / "such.png"))
    assert missing.code == 2
    assert "cannot be written" in missing.err
    for name in (tmp_path, tmp_path / "noext", tmp_path / "a.txt"):
        assert "does not end in .png" in octavo(*SMALL, "--device", "a100", "--plot", str(name)).err


def test_a_plot_without_matplotlib_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['matplotlib.figure'] = None; from octavo.cli.main import main; "
        "main(['explain', 'attention', '--device', 'a100', '--plot', 'x.png'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "pip install octavo[plot]" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "b200"), "device='b200' is not one of cpu, a100, h100, h200, l40s"),
        (("--dtype", "fp8"), "dtype='fp8' is not one of bf16, fp16, fp32"),
        (("--device", "a100", "--measure"), "use --device=cpu"),
        (("--seqlen", "0"), "invalid value for '--seqlen'"),
        (("--seqlen", "30000", "--measure"), "allowed 2 GiB; lower it, or leave --measure out"),
    ],
)
def test_what_cannot_be_explained_is_refused(arguments: tuple[str, ...], message: str, octavo: Octavo) -> None:
    result = octavo("explain", "attention", *arguments)
    assert result.code == 2
    assert message in result.err


def test_the_choices_are_those_that_the_figures_exist_for() -> None:
    from octavo.bench import devices
    from octavo.cli import explain

    assert set(explain.DEVICES) == {"cpu", *devices.GPUS}
    assert set(explain.DTYPES) == set(devices.DTYPES)
