"""The layers a function names: which version holds what was built here, and publishing it where none does.

A version is known by the digest of its zip: from the ledger, else from the digest in its description, which Lambda then
confirms. So nothing is published twice, whoever published it and whatever became of the answer. What a plan is yet to
publish stands in it as `layer.NAME`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pointsman.aws.gateway import Package
from pointsman.config import Direct
from pointsman.errors import AccessDenied, Ambiguous, BuildFailed, FunctionFailed, NotFound
from pointsman.model import Artifact, BuiltLayer, Configuration, LayerVersion, from_json, size, to_json
from pointsman.plan import PublishLayer
from pointsman.provision import rehearsal, uploads
from pointsman.world import Session

ATTEMPTS = 3
_UNMARKED = 10  # versions without our mark that are asked for their digest


class Looked(NamedTuple):
    """What the function is to have, in order: ARNs, and `layer.NAME` for what the steps are to publish."""

    refs: tuple[str, ...]
    steps: tuple[PublishLayer, ...]


def look(session: Session, made: Artifact, function: Configuration | None) -> Looked:
    """Asks nothing where the ledger knows the versions and `$LATEST` has them already."""
    provision = session.function.provision
    named = provision.layers if isinstance(provision, Direct) else ()
    built = {each.layer: each for each in made.layers}
    refs: list[str] = []
    steps: list[PublishLayer] = []
    for ref in named:
        if ref not in built:
            refs.append(ref)
            continue
        arn = arn_of(session, built[ref], function)
        present = tuple(function.settings.get("Layers", ())) if function else ()
        found, newest = _find(session, built[ref], arn, present)
        refs.append(found or f"layer.{ref}")
        if not found:
            steps.append(_step(built[ref], arn, newest))
    return Looked(tuple(refs), tuple(steps))


def arn_of(session: Session, built: BuiltLayer, function: Configuration | None) -> str:
    """Without a version. A role is of the function's own account, so that nobody has to be asked which that is."""
    provision = session.function.provision
    assert isinstance(provision, Direct), "only of those does the file say the layers"
    _, partition, _, _, account, _ = provision.role.split(":", 5)
    region = function.arn.region if function else session.wire.region
    return f"arn:{partition}:lambda:{region}:{account}:layer:{built.name}"


def _step(built: BuiltLayer, arn: str, newest: LayerVersion | None) -> PublishLayer:
    return PublishLayer(
        layer=built.layer,
        arn=arn,
        sha256=built.package.sha256,
        size=built.package.size,
        reason=f"version {newest.number} holds something else" if newest else "there is none yet",
        retain=built.retain,
    )


def _find(
    session: Session, built: BuiltLayer, arn: str, present: tuple[str, ...] = ()
) -> tuple[str, LayerVersion | None]:
    """The version that holds what was built, "" where none does; and the newest there is, where one had to look."""
    sha256 = built.package.sha256
    known = session.ledger.layer(arn, sha256)
    if known and known in present:
        return known, None
    candidates = dict.fromkeys(each for each in (known, *present) if each.startswith(f"{arn}:"))
    for each in candidates:
        found = session.gateway.layer_version(each)
        if found and found.sha256 == sha256:
            return _remembered(session, built, arn, found, anew=False), None
    newest: LayerVersion | None = None
    for listed in _likely(session.gateway.layer_versions(built.name), sha256.hex):
        newest = newest or listed
        if listed.arn in candidates or not _may_hold(listed, sha256.hex):
            continue
        found = session.gateway.layer_version(listed.arn)
        if found and found.sha256 == sha256:
            return _remembered(session, built, arn, found, anew=False), None
    return "", newest


def _likely(versions: Iterable[LayerVersion], digest: str) -> Iterator[LayerVersion]:
    """All of ours, and as many of others' as are worth a call each; the newest in any case."""
    unmarked = 0
    for each in versions:
        unmarked += not _mark(each)
        if _mark(each) or unmarked <= _UNMARKED:
            yield each
        if _mark(each) == digest:
            return


def _may_hold(version: LayerVersion, digest: str) -> bool:
    return _mark(version) in ("", digest)


def _mark(version: LayerVersion) -> str:
    """The digest in its description, "" where it is not one of ours."""
    before, _, digest = version.description.rpartition("sha256:")
    return digest if before.startswith("Pointsman") and len(digest) == 64 else ""


def _remembered(session: Session, built: BuiltLayer, arn: str, found: LayerVersion, *, anew: bool) -> str:
    """Write down which version holds it. A session that only looks writes nothing."""
    if session.run and (anew or session.ledger.layer(arn, built.package.sha256) != found.arn):
        session.ledger.append(
            session.run,
            "layer",
            function=session.function.name,
            subject=arn,
            version=found.arn,
            sha256=built.package.sha256,
            layer=built.layer,
            published=anew,
        )
    return found.arn


# Publishing


def publish(session: Session, step: PublishLayer, made: Artifact) -> str:
    """The ARN of the version. Once for all functions of a release, and once whatever becomes of the answer."""
    built = next(each for each in made.layers if each.layer == step.layer)
    with session.world.turns.take(step.arn) as before:
        if before and (known := session.ledger.layer(step.arn, step.sha256)):
            return known  # by another function of this release
        found = _surely(session, step, built)
        if found.sha256 != step.sha256:
            raise FunctionFailed(
                f"AWS stored another layer than was sent: {found.sha256}, not {step.sha256}",
                where=f"publishing layer {step.layer}",
            )
        session.say(f"published version {found.number} of layer {built.name}")
        arn = _remembered(session, built, step.arn, found, anew=True)
        _drop(session, built, found)
        return arn


def _surely(session: Session, step: PublishLayer, built: BuiltLayer) -> LayerVersion:
    """Send; after an answer that was lost look for the version before it is sent again."""
    for attempt in range(ATTEMPTS):
        try:
            return session.gateway.publish_layer(
                built.name,
                _content(session, built).parameters(),
                description=f"Pointsman, layer.{built.layer}, sha256:{step.sha256.hex}",
                runtimes=built.runtimes,
                architectures=built.architectures,
            )
        except Ambiguous as lost:
            session.say(f"publishing layer {step.layer}: no answer ({lost.what}); looking whether it took effect")
            arn, _ = _find(session, built, step.arn)
            if arn and (found := session.gateway.layer_version(arn)):
                return found
            if attempt + 1 == ATTEMPTS:
                raise
    raise AssertionError("unreachable: the last attempt returned or raised")


def _content(session: Session, built: BuiltLayer) -> Package:
    path, bucket = Path(built.package.path), session.environment.bucket
    if not path.exists():
        raise BuildFailed(
            f"the package of layer {built.layer} is not in this checkout: {path}",
            where=f"publishing layer {built.layer}",
            next="Promote from where it was built, or deploy there.",
        )
    if not bucket:
        return Package(zip=path.read_bytes())
    key = f"{uploads.OURS}layers/{built.layer}/{built.package.sha256.hex}.zip"
    return by_bucket(session, bucket, key, path)


def by_bucket(session: Session, bucket: str, key: str, path: Path) -> Package:
    """A package, a layer's or a function's, once it lies in S3. A rehearsal makes the bucket where it is missing."""
    try:
        uploads.store(session.gateway, bucket, key, path, session.say)
    except NotFound:
        if not session.world.staged:
            raise
        rehearsal.bucket(session.gateway, bucket, session.wire.region, session.say)
        uploads.store(session.gateway, bucket, key, path, session.say)
    return Package(bucket=bucket, key=key)


def _drop(session: Session, built: BuiltLayer, newest: LayerVersion) -> None:
    """Delete what `retain` does not keep, of ours alone. Functions, and their versions, keep what they have."""
    if built.retain is None:
        return
    ours = [each for each in session.gateway.layer_versions(built.name) if _mark(each) and each.arn != newest.arn]
    for old in ours[built.retain - 1 :]:
        session.gateway.delete_layer_version(built.name, old.number)
        session.say(f"deleted version {old.number} of layer {built.name}: retain = {built.retain}")


# Others' layers


def others(session: Session, refs: Iterable[str]) -> list[LayerVersion]:
    """What Lambda tells of layers that are not of this file: one read each, once for this ledger.

    A layer that one may use and not look at is left out, and said.
    """
    found = []
    for arn in refs:
        known = session.ledger.remembered("other layer", arn)
        if known:
            found.append(from_json(to_json({**known, "arn": arn}), LayerVersion))
            continue
        try:
            version = session.gateway.layer_version(arn)
        except (AccessDenied, NotFound) as error:
            session.say(f"layer {arn} cannot be looked at: {error.what}")
            continue
        if version is None:
            continue
        found.append(version)
        if session.run:
            session.ledger.append(
                session.run,
                "other layer",
                function=session.function.name,
                subject=arn,
                sha256=version.sha256,
                size=version.size,
                runtimes=version.runtimes,
                architectures=version.architectures,
            )
    return found


def unfit(session: Session, versions: Iterable[LayerVersion]) -> list[str]:
    """What their publishers did not mean them for, a sentence each."""
    function = session.function
    said = []
    for each in versions:
        for what, own, may in (
            ("runtime", function.runtime, each.runtimes),
            ("architecture", function.architecture, each.architectures),
        ):
            if own and may and own not in may:
                said.append(
                    f"layer {each.arn} is for {', '.join(may)}, and the {what} of {function.name} is {own}: its code "
                    "may not load"
                )
    return said


def heaviest(versions: Iterable[LayerVersion]) -> tuple[int, str]:
    """What others' layers take unzipped at the least, which is what they take zipped: Lambda tells no more."""
    found = list(versions)
    return sum(each.size for each in found), ", ".join(f"{each.arn} {size(each.size)} zipped" for each in found)
