"""Keep a copied-in version out of the model's version policy, before anybody has looked at it.

Whatever loads the model meanwhile, such as a server that is started anew, then loads what served before, and nothing
else; also when the look ends with a refusal, and the folder stays where it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from modelport.errors import ManifestError
from modelport.repository import config as configs
from modelport.repository import switch
from modelport.repository.layout import config_path, version_numbers
from modelport.server import connection


def back(repository: Path, model: str, version: int, *, candidate: bool) -> tuple[str, ...]:
    """Let the version policy name versions, and not this one; the model's lock is held by the caller.

    Args:
        repository: The model repository.
        model: Model name.
        version: The version.
        candidate: Take it out also where the policy names it; else it stays named there.

    Returns:
        What a reader should know, one line each.

    Raises:
        RepositoryError: The disk refused.
        ServerTimeoutError: The running server does not say what it has loaded.
    """
    if not config_path(repository, model).is_file():
        return ()
    try:
        config, record = switch.read(repository, model)
    except ManifestError:  # nothing can load it; whoever looks at the version says so
        return ()
    specific = config.version_policy.HasField("specific")
    if specific and version not in configs.versions_of(config):
        return ()
    if specific and not candidate:
        return (f"config.pbtxt names version {version}: it is loaded with the model",)
    others = [v for v in version_numbers(repository, model) if v != version]
    named = configs.selected(config, others)
    if not (specific and named):  # 'latest' may mean another one that was copied in; what answers now is to stay
        named = _ready(repository, model, others) or named
    aliases = {word: v for word, v in record.aliases.items() if v in named}
    configs.set_versions(config, named)
    switch.write(repository, model, config, replace(record, aliases=aliases))
    return ("the version policy of config.pbtxt names versions now, and not this one",)


def _ready(repository: Path, model: str, others: list[int]) -> tuple[int, ...]:
    running = connection.find(repository)
    return tuple(v for v in running.ready_versions(model) if v in others) if running is not None else ()
