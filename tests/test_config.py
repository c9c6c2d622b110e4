from __future__ import annotations

import dataclasses
import re
import runpy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import hypothesis
import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from musicspectrogan.cli import COMMANDS
from musicspectrogan.config import config_file, from_plain, read_yaml, to_yaml
from musicspectrogan.data.settings import PreprocessConfig
from musicspectrogan.data.sources import Selection
from musicspectrogan.errors import USUAL_NAMES, SettingError, UserError
from musicspectrogan.evaluation.settings import EvaluateConfig
from musicspectrogan.flags import parse_flags
from musicspectrogan.generation.settings import GenerateConfig
from musicspectrogan.training.settings import TrainingConfig

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@dataclass(frozen=True)
class Example:
    """An example."""

    batch_size: int = 64
    """Images."""
    lr: float = 0.1
    """Rate."""
    folder: Path | None = None
    """Folder; None for none."""
    strict: bool = False
    """Strict."""


def written(folder: Path, text: str) -> Path:
    (folder / "x.yaml").write_text(text)
    return folder / "x.yaml"


@pytest.mark.parametrize("flag", ["--batch-size", "--batch_size"])
def test_both_spellings_of_a_flag(flag):
    assert parse_flags(Example, [flag, "3"]).batch_size == 3


def test_precedence_is_default_then_yaml_then_flag(tmp_path):
    settings = read_yaml(Example, written(tmp_path, "batch_size: 8\nlr: 2e-4\nstrict: true"))
    assert settings == Example(batch_size=8, lr=2e-4, strict=True)
    assert parse_flags(Example, ["--batch-size", "9"], default=settings) == Example(
        9, 2e-4, None, True
    )


def test_yaml_round_trip(tmp_path):
    settings = Example(batch_size=5, lr=1e-05, folder=Path("a b/c"), strict=True)
    assert read_yaml(Example, written(tmp_path, to_yaml(settings))) == settings
    assert read_yaml(Example, written(tmp_path, to_yaml(Example()))) == Example()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sise", "3"], "--batch-sise"),
        (["--batch-sise", "3"], "did you mean --batch-size?"),
        (["--batch-size", "x"], "--batch-size"),
        (["--batch-size"], "--batch-size"),
        (["stray"], "stray"),
    ],
)
def test_a_bad_flag_is_reported_in_one_line(arguments, message):
    with pytest.raises(UserError) as error:
        parse_flags(Example, arguments)
    assert (
        message in str(error.value)
        and "\n" not in str(error.value)
        and "\u2502" not in str(error.value)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize: 3", "unknown key 'batchsize' (did you mean 'batch_size'?)"),
        ("learning_rate: 3", "unknown key 'learning_rate' (did you mean 'lr'?)"),
        ("quux: 3", "unknown key 'quux'; --help lists the settings"),
        ("batch_size: many", "x.yaml: batch_size: 'many' is not a whole number"),
        ("batch_size: [1, 2]", "batch_size: expected a single value"),
        ("- batch_size", "expected lines of the form"),
        ("batch_size: {", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("\x00", "not valid YAML"),
    ],
)
def test_a_bad_yaml_file_is_reported_by_name(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_yaml(Example, path)
    assert (
        message in str(error.value)
        and str(path) in str(error.value)
        and "\n" not in str(error.value)
    )


@pytest.mark.parametrize(
    ("settings", "name", "meant"),
    [
        (TrainingConfig, "learning_rate", "lr"), (TrainingConfig, "batch", "batch_size"),
        (TrainingConfig, "num_epochs", "epochs"), (TrainingConfig, "z_dim", "latent_dim"),
        (TrainingConfig, "nz", "latent_dim"), (TrainingConfig, "ngf", "width"),
        (TrainingConfig, "data", "dataset"), (TrainingConfig, "gpu", "device"),
        (TrainingConfig, "quux", None),
        (TrainingConfig, "resolution", "image_size"), (TrainingConfig, "Learning-Rate", "lr"),
        (PreprocessConfig, "outdir", "output"), (PreprocessConfig, "data", "input"),
        (PreprocessConfig, "workers", "jobs"), (PreprocessConfig, "num-workers", "jobs"),
        (PreprocessConfig, "sr", "sample_rate"), (PreprocessConfig, "hop", "hop_length"),
        (PreprocessConfig, "fft_size", "n_fft"), (PreprocessConfig, "fmax", "f_max"),
        (GenerateConfig, "model", "checkpoint"), (GenerateConfig, "num_samples", "count"),
        (EvaluateConfig, "num_samples", "samples"), (GenerateConfig, "psi", "truncation"),
    ],
)  # fmt: skip
def test_names_of_other_tools_get_a_suggestion(settings, name, meant):
    flag = "--" + name.replace("_", "-")
    with pytest.raises(UserError) as error:
        parse_flags(settings, [flag, "3"], program="tool")
    hint = f" (did you mean --{meant.replace('_', '-')}?)" if meant else ""
    assert str(error.value) == f"unknown flag {flag}{hint}; see tool --help"


def test_every_name_of_other_tools_leads_to_a_setting():
    commands = (TrainingConfig, PreprocessConfig, Selection, GenerateConfig, EvaluateConfig)
    settings = {field.name for command in commands for field in fields(command)} | {
        "resume",
        "images",
    }
    assert set(USUAL_NAMES) <= settings
    for setting, names in USUAL_NAMES.items():
        assert len(names.split()) == len(set(names.split()))
        assert setting not in names.split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "1"], "--batch-size: 1 is not allowed; it must be from 2"),
        (
            ["--keep-checkpoints", "0"],
            "--keep-checkpoints: 0 is not allowed; it must be at least 1",
        ),
        (["--snapshot-share", "2"], "--snapshot-share: 2.0 is not allowed"),
        (["--gan", "dcgn"], "--gan: 'dcgn' is not one of"),
        (
            ["--device", "gpu"],
            "--device: 'gpu' is not one of auto, cuda, mps, cpu, cuda:N (did you mean 'cuda'?)",
        ),
    ],
)
def test_an_error_names_the_key_of_a_file_or_the_flag(tmp_path, arguments, message):
    with pytest.raises(SettingError) as error:
        parse_flags(TrainingConfig, arguments)
    assert error.value.flag_message.startswith(message)
    key, value = arguments[0][2:].replace("-", "_"), arguments[1]
    with pytest.raises(UserError) as error:
        read_yaml(TrainingConfig, written(tmp_path, f"{key}: {value}"))
    assert str(error.value).startswith(f"--config {tmp_path / 'x.yaml'}: {key}: ")


def test_a_tilde_is_the_home_directory_in_flags_and_yaml(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MUSIC", "somewhere")
    assert parse_flags(Example, ["--folder=~/music"]).folder == tmp_path / "music"
    assert parse_flags(Example, ["--folder", "~"]).folder == tmp_path
    assert read_yaml(Example, written(tmp_path, "folder: ~/images")).folder == tmp_path / "images"
    assert read_yaml(Example, written(tmp_path, "folder: a/~/b")).folder == Path("a/~/b")
    assert parse_flags(Example, ["--folder=~nobody-of-this-name/x"]).folder == Path(
        "~nobody-of-this-name/x"
    )
    assert parse_flags(Example, ["--folder=$MUSIC"]).folder == Path("$MUSIC")
    compared = parse_flags(EvaluateConfig, ["--compare", "~/a", "b"]).compare
    assert compared == (tmp_path / "a", Path("b"))


def test_none_is_still_a_value_of_what_may_be_none():
    assert parse_flags(TrainingConfig, ["--augment", "None"]).augment == "auto"
    assert parse_flags(TrainingConfig, ["--augment", "0.5"]).augment == 0.5
    assert (
        parse_flags(Example, ["--folder", "None"], default=Example(folder=Path("x"))).folder is None
    )


@dataclass(frozen=True)
class NumberOrAuto:
    """A setting that is a number or a word, and one that older files hold as None."""

    lr: float | Literal["auto"] = 0.1
    """Rate."""
    augment: float | Literal["auto"] | None = 0.0
    """Probability."""


def test_a_setting_is_a_number_or_auto_from_flags_yaml_and_plain_values(tmp_path):
    expected = NumberOrAuto(lr="auto", augment=2.0)
    assert parse_flags(NumberOrAuto, ["--lr", "auto", "--augment", "2"]) == expected
    assert read_yaml(NumberOrAuto, written(tmp_path, "lr: auto\naugment: 2")) == expected
    assert from_plain(NumberOrAuto, {"lr": "auto", "augment": 2}) == expected
    assert read_yaml(NumberOrAuto, written(tmp_path, to_yaml(expected))) == expected
    assert read_yaml(NumberOrAuto, written(tmp_path, "augment: null")).augment is None
    assert from_plain(NumberOrAuto, {"augment": None}).augment is None
    for value in ("fast", "None"):
        with pytest.raises(UserError, match=f"lr: '{value}' is not a number or auto"):
            parse_flags(NumberOrAuto, ["--lr", value])
        with pytest.raises(UserError, match=f"lr: '{value}' is not a number or auto"):
            read_yaml(NumberOrAuto, written(tmp_path, f"lr: {value}"))
    for value in ("fast", None, True, [1.0]):
        with pytest.raises(UserError, match=r"^lr: "):
            from_plain(NumberOrAuto, {"lr": value})


def test_a_recipe_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("configs/cgan-best.yaml", "configs/cgan-best", "cgan-best", "cgan-best.yaml"):
        assert config_file(Path(name)) == Path("configs/cgan-best.yaml")
    monkeypatch.chdir(tmp_path)
    for name in ("configs/cgan-best", "cgan-best"):
        assert config_file(Path(name)) == ROOT / "configs" / "cgan-best.yaml"
    mine = tmp_path / "cgan-best.yaml"
    mine.write_text("epochs: 3")
    assert config_file(Path("cgan-best")) == Path("cgan-best.yaml")
    assert config_file(tmp_path / "cgan-best") == mine
    (tmp_path / "cgan-best").write_text("epochs: 4")  # exactly so
    assert config_file(Path("cgan-best")) == Path("cgan-best")
    with pytest.raises(
        UserError,
        match=r"'?dgan-best'?: there is no such file \(did you mean '.*-best'\?\); recipes are ",
    ):
        config_file(Path("dgan-best"))
    with pytest.raises(UserError, match="elsewhere/cgan: there is no such file"):
        config_file(Path("elsewhere/cgan"))


def test_a_missing_yaml_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_yaml(Example, tmp_path / "none.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_valid(path):
    settings = read_yaml(TrainingConfig, path)
    assert settings.dataset is None  # a config fits any dataset


@pytest.mark.parametrize("gan", ["dcgan", "cgan"])
def test_the_classic_configs_write_out_the_defaults(gan):
    text = (ROOT / "configs" / f"{gan}.yaml").read_text()
    assert read_yaml(TrainingConfig, ROOT / "configs" / f"{gan}.yaml") == TrainingConfig(gan=gan)
    unset = {"dataset", "image_size", "init_from"}
    assert all(
        f"\n{field.name}: " in text for field in fields(TrainingConfig) if field.name not in unset
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"gan": "dcgn"}, {"device": "gpu"}, {"epochs": 0}, {"batch_size": 1}, {"width": 0},
        {"lr": 0.0},
        {"lr": float("nan")}, {"beta1": 1.0}, {"seed": -1}, {"keep_checkpoints": 0},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_by_name(changes):
    (name,) = changes
    with pytest.raises(UserError, match=name):
        TrainingConfig(**changes)


@pytest.mark.parametrize("settings", [TrainingConfig, PreprocessConfig, Selection])
def test_every_setting_is_explained(settings):
    source = Path(__import__(settings.__module__, fromlist=["x"]).__file__).read_text()
    for field in fields(settings):
        line = next(line for line in source.splitlines() if line.startswith(f"    {field.name}: "))
        assert source.split(line + "\n")[1].startswith('    """'), field.name


def test_minibatch_deviation_needs_a_batch_that_can_be_grouped():
    with pytest.raises(UserError, match="batch_size: 7 cannot be split into groups"):
        TrainingConfig(minibatch_deviation=True, batch_size=7)
    assert TrainingConfig(minibatch_deviation=True, batch_size=6).batch_size == 6


@pytest.mark.parametrize(
    "change", [{"r1": -1.0}, {"r2": float("inf")}, {"augment": 1.5}, {"anneal_images": -1}]
)
def test_weights_and_probabilities_out_of_range_are_refused(change):
    (name,) = change
    with pytest.raises(UserError, match=f"^{name}: "):
        TrainingConfig(**change)


def recipe(name):
    return read_yaml(TrainingConfig, ROOT / "configs" / f"{name}.yaml")


def test_the_recipes_differ_in_model_and_in_what_depends_on_the_size():
    best = recipe("cgan-best")
    assert (best.gan, best.loss, best.windows, best.augment) == (
        "anylength_cgan",
        "relativistic",
        True,
        "auto",
    )
    assert recipe("unconditional-best") == replace(best, gan="anylength_gan")
    assert best.upsampling == "resize_time"
    large = replace(
        best, width=32, channel_multiple=16, r1=4 * best.r1, r2=4 * best.r2, rhythm=True
    )
    assert recipe("cgan-best-128") == large
    assert recipe("unconditional-best-128") == replace(large, gan="anylength_gan")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x, x]\nepochs: *a\n", "without aliases"),
        (
            "a0: &a0 {x: y}\n"
            + "".join(f"a{k + 1}: &a{k + 1} {{<<: [*a{k}, *a{k}]}}\n" for k in range(40)),
            "aliases",
        ),
        ("[" * 50_000, "without aliases, tags and nesting"),
        ("x" * 100_000, "too large for settings"),
        ("batch_size: 0x" + "f" * 5000, "batch_size: the number is too large"),
        ("batch_size: " + "9" * 5000, "not valid YAML"),
        ("!!python/name:os.system", "not valid YAML"),
        ("strict: !!bool maybe", "tags"),
        ("batch_size: !!int ''", "tags"),
        ('folder: "\\0"', "folder: '.*' is not a path"),
        ('folder: "\\uD800"', "folder: '.*' is not a path"),
        ("#" + "é" * 40_000 + "\nbatch_size: 3\n", "too large for settings"),
    ],
    ids=[
        "alias",
        "merged aliases",
        "deep",
        "large",
        "endless number",
        "longer number",
        "python",
        "bool",
        "int",
        "NUL",
        "half a character",
        "large in bytes",
    ],
)
def test_malicious_yaml_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_yaml(Example, written(tmp_path, text))


KEYS = st.sampled_from([field.name for field in fields(TrainingConfig)]) | st.text(max_size=5)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
@hypothesis.settings(derandomize=True, max_examples=80, deadline=None)
def test_any_mapping_is_settings_or_refused(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("yaml") / "x.yaml"
    path.write_text(yaml.safe_dump(contents, allow_unicode=True), encoding="utf-8")
    try:
        settings = read_yaml(TrainingConfig, path)
    except UserError as error:
        assert str(path) in str(error)
    else:
        path.write_text(to_yaml(settings), encoding="utf-8")
        assert read_yaml(TrainingConfig, path) == settings


@dataclass(frozen=True)
class Inner:
    """All kinds of values."""

    count: int
    rate: float = 1.0
    name: str = ""
    on: bool = False
    folder: Path | None = None
    labels: list[str] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class Outer:
    """A nested dataclass."""

    inner: Inner
    more: dict[str, float] = dataclasses.field(default_factory=dict)


def test_a_dataclass_is_made_from_plain_values():
    whole = {"count": 3, "rate": 2, "name": "x", "on": True, "folder": "a/b", "labels": ["p", "q"]}
    made = from_plain(Outer, {"inner": whole, "more": {"a": 1.5}})
    assert made == Outer(Inner(3, 2.0, "x", True, Path("a/b"), ["p", "q"]), {"a": 1.5})
    assert type(made.inner.rate) is float
    assert from_plain(Inner, {"count": 1, "folder": None}) == Inner(1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (7, "expected names and values, not int"), ([], "names and values, not list"),
        ({}, "count is missing"),
        ({"count": 1, "size": 2}, "'size' is unknown"), ({"count": 1, 5: 2}, "'5' is unknown"),
        ({"count": True}, "count: True is not a whole number"),
        ({"count": 1.0}, "count: 1.0 is not a whole number"),
        ({"count": None}, "count: None is not a whole number"),
        ({"count": 10**30}, "count: the number is too large"),
        ({"count": 1, "rate": "1"}, "rate: '1' is not a number"),
        ({"count": 1, "rate": 10**400}, "rate: the number is too large"),
        ({"count": 1, "on": 1}, "on: 1 is not true or false"),
        ({"count": 1, "name": None}, "name: None is not text"),
        ({"count": 1, "labels": ["a", 1]}, "labels: 1 is not text"),
        ({"count": 1, "labels": "ab"}, "labels: 'ab' is not a list"),
        ({"count": 1, "folder": 3}, "folder: 3 is not a path"),
        ({"count": 1, "folder": "a\0b"}, "folder: 'a\\x00b' is not a path"),
    ],
)  # fmt: skip
def test_plain_values_of_other_names_and_types_are_refused(values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        from_plain(Inner, values)
    with pytest.raises(UserError):
        from_plain(Outer, {"inner": values})


@pytest.mark.parametrize("change", [{"seed": 2**63}, {"batch_size": 10**9}])
def test_too_large_numbers_are_refused(change):
    (name,) = change
    with pytest.raises(UserError, match=f"^{name}: "):
        TrainingConfig(**change)


def test_the_page_of_flags_is_up_to_date():
    """`python docs/flags.py` writes it again."""
    page = runpy.run_path(str(ROOT / "docs" / "flags.py"))
    assert page["COMMANDS"].keys() == COMMANDS.keys()
    assert (ROOT / "docs" / "flags.md").read_text(encoding="utf-8") == page["render"]()
