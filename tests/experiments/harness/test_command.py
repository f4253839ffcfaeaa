import re

import pytest

from experiments.harness import command


def test_list_names_every_experiment(capsys):
    command.main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{name}: {command.experiment(name).question}" for name in command.NAMES]
    assert lines[0].startswith("convergence: How fast")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "convergance"], "invalid choice"),
        (["run", "convergence", "--scale", "huge"], "invalid choice"),
        (["run", "convergence", "--jobs", "0"], "must be a positive whole number, got '0'"),
        (["run", "convergence", "--data", "none.npz"], "there is no such file"),
        (["run", "convergence", "--only", "gredy"], "--only gredy: .* there are cyclic, 1 step; "),
        (["run", "convergence", "--models", "resnet"], "--models resnet: .* there are mlp"),
    ],
)
def test_mistakes_are_answered_with_what_there_is(arguments, message, capsys, tmp_path):
    if arguments[0] == "run":
        arguments = [*arguments, "--results", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    said = f"{stopped.value.code} {capsys.readouterr().err}"
    assert re.search(message, said), said


def test_nothing_to_plot_is_said(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        command.main(["plot", "--results", str(tmp_path)])
    for name in command.NAMES:
        assert f"python -m experiments run {name}" in stopped.value.code


def test_an_interruption_says_how_to_go_on(monkeypatch):
    def interrupted(options):
        error = KeyboardInterrupt()
        error.add_note("Every run that was over is kept in there: the same call goes on.")
        raise error

    monkeypatch.setattr(command, "show_experiments", interrupted)
    with pytest.raises(SystemExit, match=r"interrupted\nEvery run .* kept in there"):
        command.main(["list"])
