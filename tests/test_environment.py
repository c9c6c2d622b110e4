"""Environment variables that users, notebooks or clusters set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import environment

from musicspectrogan.audio.files import save
from musicspectrogan.charts import chart
from musicspectrogan.data import composer
from musicspectrogan.environment import check_environment
from musicspectrogan.errors import UserError

NOWHERE = "/proc/nowhere"  # where not even root can make a folder

# Every command in one process, as a user types them.
COMMANDS = """
import sys
from musicspectrogan.cli import main

for line in (
    "preprocess --dataset folder --input music --output images --jobs 2",
    "train --dataset images --gan cgan --epochs 2 --width 2 --batch-size 2 --standing-batches 1 "
    "--device cpu --snapshot-every 1 --output run",
    "generate --checkpoint run --count 1 --device cpu --output made",
):
    command, *sys.argv[1:] = line.split()
    try:
        main(command)
    except SystemExit as end:
        assert not end.code, (line, end.code)
"""

SETTINGS = {
    "a notebook": {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": "rc",
        "TQDM_DISABLE": "1", "COLUMNS": "abc", "LINES": "1",
        "TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": "1", "PYTHONWARNINGS": "error",
        "PYTHONPATH": "site",
    },
    "a cluster's old system": {
        "WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2", "SLURM_PROCID": "2",
        "MKL_NUM_THREADS": "-1", "OPENBLAS_NUM_THREADS": "0", "JOBLIB_TEMP_FOLDER": NOWHERE,
        "TMPDIR": NOWHERE, "HOME": NOWHERE, "MPLCONFIGDIR": NOWHERE,
        "XDG_CACHE_HOME": NOWHERE, "XDG_CONFIG_HOME": NOWHERE, "NUMBA_CACHE_DIR": NOWHERE,
        "CUDA_VISIBLE_DEVICES": "nonsense", "MPLBACKEND": "TkAgg", "LC_ALL": "C", "LANG": "C",
        "PYTHONIOENCODING": "ascii", "PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "17",
        "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "1", "TZ": "Nowhere/At-All", "TERM": None,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some music, matplotlib settings that change every plot, and a sitecustomize."""
    home = tmp_path_factory.mktemp("home")
    for genre, style in (("Música", "chords"), ("jazz", "drums")):
        (home / "music" / genre).mkdir(parents=True)
        for index in range(3):
            samples = composer.compose(style, index, seed=1, seconds=7.0)
            save(home / "music" / genre / f"{index}.wav", samples, composer.SAMPLE_RATE)
    (home / "rc").write_text(
        "text.usetex: True\nsavefig.dpi: 17\naxes.facecolor: red\nfont.size: 31\n"
    )
    (home / "site").mkdir()
    (home / "site" / "sitecustomize.py").write_text(
        "import sys\nsys.stderr.write('customised\\n')\n"
    )
    return home


def results(home: Path, settings: dict[str, str | None]) -> dict[str, bytes]:
    """Files that the commands write with these variables, without times and speeds."""
    usual = {
        name: value
        for name, value in environment().items()
        if name not in ("MPLBACKEND", "PYTHONWARNINGS")
    }
    path = os.pathsep.join(filter(None, (usual["PYTHONPATH"], settings.get("PYTHONPATH"))))
    wanted = {**usual, **settings, "PYTHONPATH": path}
    env = {name: value for name, value in wanted.items() if value is not None}
    line = [sys.executable, "-c", COMMANDS]
    done = subprocess.run(line, cwd=home, env=env, capture_output=True, check=False)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode()
    found = {}
    for name in ("images", "run", "made"):
        for file in sorted((home / name).rglob("*")):
            if file.is_file() and not re.search(r"tensorboard|log\.txt|\.lock|\.cache", str(file)):
                found[str(file.relative_to(home))] = file.read_bytes()
        shutil.rmtree(home / name)
    # The order in which workers have finished.
    report = found["images/preprocess_report.csv"]
    found["images/preprocess_report.csv"] = b"".join(sorted(report.splitlines(keepends=True)))
    found["run/metrics.csv"] = re.sub(rb"(\d+,\d+,\d+,\d+),[^,]+", rb"\1", found["run/metrics.csv"])
    return found


@pytest.fixture(scope="module")
def expected(home: Path) -> dict[str, bytes]:
    """The same without these variables."""
    return results(home, {})


@pytest.mark.slow
@pytest.mark.parametrize("where", SETTINGS)
def test_variables_do_not_change_results(where, home, expected):
    found = results(home, SETTINGS[where])
    assert len(found) > 20 and {"run/loss_curves.png", "made/index.html"} <= found.keys()
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def test_a_chart_does_not_depend_on_matplotlib_settings(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")

    def drawn() -> bytes:
        with chart(3, 2, {"lines.markersize": 5.0}, dpi=50) as (figure, png):
            figure.subplots().plot(np.arange(5), "o-", label="a")
        return png.getvalue()

    plain = drawn()
    with matplotlib.rc_context({"text.usetex": True, "savefig.dpi": 17, "axes.facecolor": "red"}):
        assert drawn() == plain
        assert matplotlib.rcParams["axes.facecolor"] == "red"  # for plots of the caller


@pytest.mark.parametrize(
    ("name", "value", "is_allowed"),
    [
        ("NUMBA_NUM_THREADS", "4", True),
        ("NUMBA_NUM_THREADS", "x", False),
        ("LOKY_MAX_CPU_COUNT", "0", False),
        ("LOKY_MAX_DEPTH", "", False),
        ("JOBLIB_MULTIPROCESSING", "0", True),
        ("LIBROSA_CACHE_LEVEL", "high", False),
        ("TQDM_MININTERVAL", "0.5", True),
        ("TQDM_POSITION", "q", False),
        ("OMP_NUM_THREADS", "abc", True),
        ("MY_NUM_THREADS", "x", True),
    ],
)
def test_a_variable_at_which_a_library_fails_is_refused(name, value, is_allowed, monkeypatch):
    monkeypatch.setenv(name, value)
    if is_allowed:
        check_environment()
    else:
        with pytest.raises(UserError, match=f"variable {name} is {value!r}, but must be a number"):
            check_environment()
    assert os.environ[name] == value


def test_a_command_says_which_variable_is_wrong(command, tmp_path, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_DEPTH", "x")
    done = command("-m", "musicspectrogan", "info", "--help", cwd=tmp_path, status=2)
    assert "LOKY_MAX_DEPTH is 'x', but must be a number, at least 1; unset it" in done.stderr
