"""The ``hesrl`` command: once by subprocess, else in this process."""

import importlib
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from hesrl import __version__
from hesrl.agents import ppo
from hesrl.cli import main, run_command
from hesrl.command_options import options_of
from hesrl.commands import COMMANDS, FAMILIES


class Result(NamedTuple):
    """What a command leaves."""

    status: int
    out: str
    err: str


@pytest.fixture
def hesrl(capsys):
    """Runs a command."""

    def run(*arguments):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
        return Result(status, *capsys.readouterr())

    return run


def test_the_process_ends_with_the_status_of_its_command():
    for arguments, status in ((("--help",), 0), (("train", "pop"), 2)):
        command = [sys.executable, "-m", "hesrl.cli", *arguments]
        assert subprocess.run(command, capture_output=True).returncode == status


def test_a_wrong_choice_is_one_line_without_the_parsers_box():
    command = [sys.executable, "-m", "hesrl.cli", "completion", "fish"]
    run = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert run.returncode == 2 and "Expected one of ('bash', 'zsh'); --help" in run.stderr
    assert run.stderr.count("\n") == 1 and not set("│─╰╯") & set(run.stderr)


@pytest.mark.parametrize("arguments", ["", "ur5 home --help"])
def test_a_reader_may_close_its_pipe(arguments):
    code = f"""
import sys
from hesrl.cli import main
sys.stdin.read()  # until the reader has gone
sys.exit(main({arguments.split()}))
"""
    ends = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    with subprocess.Popen([sys.executable, "-c", code], **ends) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_hesrl_lists_what_there_is(hesrl, arguments):
    status, out, err = hesrl(*arguments)
    assert (status, err) == (0, "")
    assert all(name.split()[0] in out and name.split()[-1] in out for name in COMMANDS)
    assert "      hesrl train ppo --env-id Hopper-v5 --total-timesteps 1e6\n" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("more", [(), ("--help",)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_lists_its_commands_with_examples(hesrl, family, more):
    status, out, err = hesrl(family, *more)
    assert (status, err) == (0, "")
    for name, command in COMMANDS.items():
        assert (f"      hesrl {name} {command.example}\n" in out) == (name.split()[0] == family)


def test_version(hesrl):
    assert hesrl("--version") == (0, f"hesrl {__version__}\n", "")


def test_listing_and_version_import_no_pytorch():
    code = "import sys; from hesrl.cli import main; main([]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_documents_its_options(hesrl, command):
    status, out, err = hesrl(*command.split(), "--help")
    assert (status, err) == (0, "")
    assert f"  hesrl {command} {COMMANDS[command].example}\n" in out
    options = options_of(importlib.import_module(COMMANDS[command].module).Args)
    assert options and all(option.doc for option in options)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_is_understood(command):
    module = importlib.import_module(COMMANDS[command].module)
    words = COMMANDS[command].example.split()
    assert run_command(module.Args, lambda args: 77, words) == 77


@pytest.mark.parametrize("family", ["bench", "ur5"])
def test_a_table_that_cannot_be_written_is_refused_before_anything_is_measured(
    hesrl, tmp_path, family
):
    (tmp_path / "file").touch()
    table, tried = tmp_path / "file" / "table", 0
    for name, command in COMMANDS.items():
        args = importlib.import_module(command.module).Args
        if name.split()[0] == family and "--out" in (option.flag for option in options_of(args)):
            words = *name.split(), *command.example.split(), "--out", str(table)
            status, out, err = hesrl(*words)
            assert (status, out) == (2, "") and err.startswith(f"error: cannot write {table}"), name
            tried += 1
    assert tried


def test_no_command_begins_with_a_number_of_steps_that_never_ends(hesrl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tried = set()
    for name, command in COMMANDS.items():
        for option in options_of(importlib.import_module(command.module).Args):
            if re.fullmatch("--(total-time|compared-|task-|)steps", option.flag):
                status, out, err = hesrl(*name.split(), option.flag, "1e30")
                assert (status, out) == (2, ""), name
                assert re.fullmatch(rf"error: .*{option.flag} 1\d+: must be from .*\n", err), err
                tried.add(name.split()[0])
    assert tried == {"bench", "example", "paper", "sweep", "train"}
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("agent", ["ppo", "a2c", "stream-ac", "sb3-ppo", "sb3-a2c"])
def test_help_of_an_agent_is_in_groups_and_has_choices(hesrl, agent):
    out = hesrl("train", agent, "--help").out
    groups = re.findall(r"^(\w.*):$", out, flags=re.MULTILINE)
    assert groups == ["Most used", "Run", "Environment", "Networks", "Algorithm", "Optimizer"]
    first = out.partition("Run:")[0]
    assert re.findall(r"^  --(\S+)", first, flags=re.MULTILINE) == [
        "env-id", "total-timesteps", "optimizer", "seed", "resume"
    ]  # fmt: skip
    assert "--activation {" in out and re.search(r"--optimizer \{\w", out)


def test_help_has_the_defaults_of_a_preset(hesrl):
    assert "(default: 2.0)" in " ".join(hesrl("train", "ppo", "--paper", "--help").out.split())


@pytest.mark.parametrize(
    ("text", "number"), [("1e3", 1000), ("2.5e3", 2500), ("4_096", 4096), ("4096", 4096)]
)
def test_a_number_of_steps_may_have_an_exponent(text, number):
    found = []
    run_command(ppo.Args, lambda args: found.append(args.total_timesteps) or 0, [
        "--total-timesteps", text, "--hidden-sizes", "1e1", "--eval-interval", "1e1"
    ])  # fmt: skip
    assert found == [number] and type(found[0]) is int


def complete(script, *words):
    """Return what bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    code = f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _hesrl\n"
    code += 'echo "${COMPREPLY[@]}"'
    bash = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert bash.stderr == ""
    return bash.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_choices(hesrl):
    script = hesrl("completion", "bash").out
    assert complete(script, "hesrl", "tra") == ["train"]
    assert complete(script, "hesrl", "train", "sb3") == ["sb3-ppo", "sb3-a2c"]
    assert complete(script, "hesrl", "train", "ppo", "--num-m") == ["--num-minibatches"]
    assert complete(script, "hesrl", "train", "ppo", "--optimizer", "sg") == ["sgd"]
    assert complete(script, "hesrl", "train", "stream-ac", "--source", "f") == ["fisher"]
    assert complete(script, "hesrl", "report", "runs", "--sc") == ["--score"]
    assert complete(script, "hesrl", "sweep", "grid.yaml", "--jo") == ["--jobs"]
    assert complete(script, "hesrl", "sweep", "agents", "--first") == ["--first-seed"]
    assert hesrl("completion", "zsh").out.startswith("autoload")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "pop"), "unknown command hesrl train pop: did you mean hesrl train ppo?"),
        (("xyz",), "unknown command hesrl xyz: hesrl lists the commands"),
        (("train", "--seed", "1"), "unknown command hesrl train --seed"),
        (("train", "ppo", "--sed", "1"), "unknown option --sed: did you mean --seed?"),
        (("train", "ppo", "word"), "unknown option word: --help lists the options"),
        (
            ("bench", "agents", "--total-timesteps", "100"),
            "--total-timesteps 100: must be from 4096",
        ),
        (("bench", "agents", "--steps", "100"), "option --steps: it is --total-timesteps"),
        (("train", "ppo", "--out", "x"), "option --out: it is --runs-dir"),
        (("sweep", "agents", "--folder=x"), "unknown option --folder: it is --out"),
        (("train", "ppo", "--seed", "one"), "parsing --seed: 'one' is not a whole number"),
        (("train", "ppo", "--seed", "1e-3"), "parsing --seed: '1e-3' is not a whole number"),
        (("completion", "fish"), "fish"),
        (("train", "ppo", "--seed"), "Missing value for argument '--seed'"),
        (("report", "x", "--score", "best"), "Expected one of ('final', 'area', 'evaluation')"),
        (("sweep",), "Missing from hesrl sweep: PATH the grid"),
        (
            ("sweep", "agents", "--optimizers", "adamw"),
            "--optimizer adamw: unknown; choose one of sgd",
        ),
        (("sweep", "agents", "--env-ids", "Hoper-v5"), "did you mean Hopper-v5"),
    ],
)
def test_mistake_is_one_line(hesrl, arguments, message):
    status, _, err = hesrl(*arguments)
    assert status == 2 and message in err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_option_of_the_wrong_type_is_named(hesrl):
    status, _, err = hesrl("train", "ppo", "--num-steps", "many")
    assert status == 2 and "--num-steps" in err and "many" in err
