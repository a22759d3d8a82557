"""The verbs `tag` and `alias`: words for versions, kept in the model's record.

A tag is a note on a version. An alias is a name for one that answers: it points at one loaded version.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from modelport.errors import InvalidNameError, UsageError
from modelport.lifecycle.loaded import loaded
from modelport.repository import events, journal, switch
from modelport.repository.layout import DEFAULT_REPOSITORY, parse_reference, version_folder, version_numbers
from modelport.repository.record import Record
from modelport.spec import check_word, parse_version


def tag(
    reference: str,
    words: Collection[str] = (),
    *,
    remove: bool = False,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> tuple[str, ...]:
    """Add tags to a version, or take them away; without words, nothing changes.

    Args:
        reference: `NAME/VERSION`.
        words: The tags: a letter, then letters, digits and `_.-`, 32 at most.
        remove: Take these tags away; one that is not there is an error.
        repository: Folder of the model repository.

    Returns:
        The version's tags, sorted.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        InvalidNameError: A word cannot be a tag.
        UsageError: The reference names no version, or a tag to remove is not there.
        ManifestError: The model's configuration cannot be read.
    """
    root = Path(repository)
    model, version = parse_reference(reference)
    if version is None:
        raise UsageError(
            f"{reference!r} names no version", why="a tag belongs to a version", fix=f"write for example {model}/1"
        )
    wanted = {check_word(word) for word in words}
    version_folder(root, model, version)
    if not wanted:
        return switch.read(root, model)[1].tags.get(version, ())
    with journal.changing(root, model):
        version_folder(root, model, version)
        config, known = switch.read(root, model)
        before = set(known.tags.get(version, ()))
        if remove and wanted - before:
            raise _not_there("tag", wanted - before, f"version {version} of {model!r}", before)
        after = tuple(sorted(before - wanted if remove else before | wanted))
        tags = {v: t for v, t in {**known.tags, version: after}.items() if t}
        if after != tuple(sorted(before)):
            switch.write(root, model, config, replace(known, tags=tags))
            text = f"tags are {', '.join(after)}" if after else "has no tags any more"
            events.append(root, events.event("tagged", text, model=model, version=version, tags=list(after)))
    return after


def alias(
    model: str,
    pointing: Mapping[str, int] | None = None,
    *,
    remove: Collection[str] = (),
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> dict[str, int]:
    """Let aliases point at versions, or take them away; without either, nothing changes. All of it happens or nothing.

    Args:
        model: Model name.
        pointing: Alias to version, such as `{"stable": 2}`. The version must be loaded: by the model's configuration,
            and in the running server, if there is one that has this model.
        remove: Aliases to take away.
        repository: Folder of the model repository.

    Returns:
        The model's aliases, sorted.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such model or version.
        InvalidNameError: A word cannot be an alias.
        UsageError: A version is not loaded, or an alias to remove is not there, or the model's route names it.
        ManifestError: The model's configuration cannot be read.
        ServerTimeoutError: The running server does not say which versions it has loaded.
    """
    root = Path(repository)
    wanted = {check_word(word): version for word, version in (pointing or {}).items()}
    version_numbers(root, model)
    if not wanted and not remove:
        return dict(sorted(switch.read(root, model)[1].aliases.items()))
    with journal.changing(root, model):
        config, known = switch.read(root, model)
        missing = set(remove) - set(known.aliases)
        if missing:
            raise _not_there("alias", missing, f"model {model!r}", known.aliases)
        _require_unrouted(model, {*remove} - {*wanted}, known)
        _require_loaded(root, model, set(wanted.values()))
        kept = {word: version for word, version in known.aliases.items() if word not in remove}
        after = dict(sorted({**kept, **wanted}.items()))
        if after != dict(known.aliases):
            switch.write(root, model, config, replace(known, aliases=after))
            text = f"aliases are {', '.join(f'{w}={v}' for w, v in after.items()) or 'gone'}"
            events.append(root, events.event("aliased", text, model=model, aliases=after))
    return after


def parse_aliases(words: Collection[str]) -> dict[str, int]:
    """`stable=2 canary=3` as alias to version.

    Raises:
        UsageError: A word is something else; all such words are named.
    """
    found: dict[str, int] = {}
    wrong = []
    for word in words:
        name, _, version = word.partition("=")
        try:
            found[check_word(name)] = parse_version(version)
        except InvalidNameError as exc:
            wrong.append(f"{word!r} ({exc.what})")
    if wrong:
        raise UsageError(
            f"these are no aliases: {', '.join(wrong)}", why="each is NAME=VERSION", fix="write for example stable=2"
        )
    return found


def _require_loaded(repository: Path, model: str, versions: set[int]) -> None:
    for version in sorted(versions):
        version_folder(repository, model, version)
    for where, there in loaded(repository, model).items() if versions else ():
        left_out = sorted(versions - set(there))
        if left_out:
            raise UsageError(
                f"version {', '.join(map(str, left_out))} of {model!r} is not loaded",
                why=f"an alias points at a version that answers; by {where}, loaded are {_words(map(str, there))}",
                fix=f"load it first: 'modelport promote {model} {left_out[0]}'",
            )


def _require_unrouted(model: str, words: set[str], known: Record) -> None:
    routed = sorted(words & {*known.route.targets})
    if routed:
        raise UsageError(
            f"alias {', '.join(routed)} of {model!r} cannot be taken away",
            why=f"the model's route names it: {known.route.words()}",
            fix=f"set another route first, or 'modelport route {model} --clear'",
        )


def _not_there(what: str, words: Collection[str], where: str, known: Collection[str]) -> UsageError:
    return UsageError(
        f"{where} has no {what} {', '.join(sorted(words))}",
        why=f"it has {_words(sorted(known))}",
        fix="name one that it has",
    )


def _words(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"
