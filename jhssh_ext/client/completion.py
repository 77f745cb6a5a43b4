"""``jhssh completion bash|zsh|fish``: a script for the shell, made from the commands; host names are asked for when needed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from . import hubs
from .cli import TOOLS
from .output import say

SHELLS = ("bash", "zsh", "fish")


def completion(shell: str, parser: argparse.ArgumentParser) -> None:
    """``shell``: one of SHELLS; or ``hosts``, which the scripts call."""
    if shell == "hosts":
        for hub in hubs.load().values():
            for server in hub.servers:
                say(server.host)
        return
    words = dict(_words(parser, ()))
    say({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](words))


def _words(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """For each command, by the words that lead to it: what may follow."""
    found: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                found.append(name)
                yield from _words(sub, (*path, name))
        else:
            found += [option for option in action.option_strings if option.startswith("--")]
            found += [str(choice) for choice in action.choices or ()]
    yield path, found


def _bash(words: dict[tuple[str, ...], list[str]]) -> str:
    """For zsh too, to which ``words`` and ``path`` mean something else."""
    groups = {path[:-1] for path in words if path}
    cases = "\n".join(
        # what has no subcommands may have arguments
        f'    "{typed}"{"" if path in groups else f"""|"{typed} "*"""}) offered="{" ".join(found)}" ;;'
        for path, found in words.items()
        if path and (typed := " ".join(path))
    )
    return f"""\
# jhssh completion for bash: put this into ~/.bashrc: eval "$(jhssh completion bash)"
_jhssh() {{
  local offered="" typed="" word current="${{COMP_WORDS[$COMP_CWORD]}}"
  for word in "${{COMP_WORDS[@]:1:$((COMP_CWORD - 1))}}"; do
    case "$word" in -*) ;; *) typed="${{typed:+$typed }}$word" ;; esac
  done
  case "${{typed%% *}}" in {"|".join(TOOLS)}|proxy)
    offered="$(jhssh completion hosts 2>/dev/null)"
    COMPREPLY=($(compgen -W "$offered" -- "$current") $(compgen -f -- "$current"))
    return ;;
  esac
  case "$typed" in
    "") offered="{" ".join(words[()])}" ;;
{cases}
  esac
  COMPREPLY=($(compgen -W "$offered" -- "$current"))
}}
complete -o default -F _jhssh jhssh"""


def _zsh(words: dict[tuple[str, ...], list[str]]) -> str:
    return f"""\
# jhssh completion for zsh: put this into ~/.zshrc, after compinit: eval "$(jhssh completion zsh)"
autoload -U +X bashcompinit && bashcompinit
{_bash(words)}"""


def _fish(words: dict[tuple[str, ...], list[str]]) -> str:
    tops = [word for word in words[()] if not word.startswith("-")]
    lines = ["# jhssh completion for fish: jhssh completion fish > ~/.config/fish/completions/jhssh.fish"]
    lines += [f"complete -c jhssh -n __fish_use_subcommand -f -a '{' '.join(tops)}'"]
    for path, found in words.items():
        if path:
            seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in path)
            lines += [f"complete -c jhssh -n '{seen}' -l {word[2:]}" for word in found if word.startswith("--")]
            values = [word for word in found if not word.startswith("-")]
            lines += [f"complete -c jhssh -n '{seen}' -f -a '{' '.join(values)}'"] if values else []
    hosts = f"__fish_seen_subcommand_from {' '.join(TOOLS)} proxy"
    lines += [f"complete -c jhssh -n '{hosts}' -a '(jhssh completion hosts 2>/dev/null)'"]
    return "\n".join(lines)
