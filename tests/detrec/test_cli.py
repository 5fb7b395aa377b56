"""Every option says what it is, to who asks for help and to who reads the README."""

from pathlib import Path

import pytest
import typer

from detrec.cli import app

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = typer.main.get_command(app).commands
PARAMETERS = [
    pytest.param(command, parameter, id=f"{name} {parameter.name}")
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.name != "help"
]


@pytest.mark.parametrize(("command", "parameter"), PARAMETERS)
def test_every_option_has_a_help_and_is_in_the_readme(command, parameter):
    assert parameter.help
    for option in parameter.opts + parameter.secondary_opts:
        if option.startswith("--"):
            assert f"`{option}" in README or f" {option}" in README, option


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name):
    assert COMMANDS[name].help
