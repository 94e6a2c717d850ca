"""Container images: a reference becomes its digest, and only the digest is deployed."""

from __future__ import annotations

import contextlib
import hashlib
import json

from pointsman.aws.identity import partition
from pointsman.building import of_image, reference
from pointsman.config import Function
from pointsman.errors import BuildFailed, Conflict, GateRefused, UsageError
from pointsman.model import Artifact, CodeSha256, size
from pointsman.world import Session


def resolve(session: Session) -> Artifact:
    """What the image is now: one read of ECR for a tag, none for a digest. Raises BuildFailed, UsageError."""
    function = session.function
    _may(session, function)
    image = (function.image or "").replace("{commit}", _commit(session))
    repository, digest = reference(image)
    account, region, name = _place(repository)
    if region != session.wire.region:
        raise UsageError(
            f"the image is in {region}, and the function in {session.wire.region}: Lambda takes images of its region",
            where=f"function.{function.name}.image",
            next=f"Replicate the repository to {session.wire.region} (ECR does it), and name that one.",
        )
    if digest:
        return of_image(function.name, repository, digest)
    tag = image.removeprefix(repository).removeprefix(":") or "latest"
    found = session.gateway.image(account, name, tag)
    if found is None and session.world.staged and session.run:
        _stand_in(session, name, tag)
        found = session.gateway.image(account, name, tag)
    if found is None:
        raise BuildFailed(
            f"ECR has no image {repository}:{tag}",
            where=f"function.{function.name}.image",
            next="Push it first (docker push), or correct the tag, the account and the region.",
        )
    if found.several:
        raise BuildFailed(
            f"{repository}:{tag} is an index of several images, and Lambda takes a single one",
            where=f"function.{function.name}.image",
            next="Build it for one platform and without attestations: docker buildx build --provenance=false "
            f"--platform linux/{'arm64' if function.architecture == 'arm64' else 'amd64'}.",
        )
    hexadecimal = found.digest.removeprefix("sha256:")
    session.say(f"image {name}:{tag} is sha256:{hexadecimal[:8]}…, {size(found.size)}")
    return of_image(function.name, repository, hexadecimal, found.size)


def at(session: Session, sha256: CodeSha256) -> Artifact:
    """The image of that digest where this environment's function takes it from. Raises BuildFailed if it lacks it."""
    function = session.function
    _may(session, function)
    repository, _ = reference(function.image or "")
    account, region, name = _place(repository)
    how = f"Let ECR replicate the repository to {session.wire.region}, or push the same image there by its digest"
    if region != session.wire.region:
        raise UsageError(
            f"the image is in {region}, and the function in {session.wire.region}: Lambda takes images of its region",
            where=f"function.{function.name}.image",
            next=f"{how}; and write {{region}} (and {{account}}) in `image`.",
        )
    found = session.gateway.image(account, name, f"sha256:{sha256.hex}")
    if found is None:
        raise BuildFailed(
            f"{repository} has no image sha256:{sha256.short}…",
            where=f"function.{function.name}.image",
            next=f"{how}. From another account, the repository's policy must let Lambda and this role read.",
        )
    return of_image(function.name, repository, sha256.hex, found.size)


def _may(session: Session, function: Function) -> None:
    if session.world.staged and function.test.integration:
        raise GateRefused(
            "container images are registered on the local AWS, not run: there is nothing to test",
            where=f"integration tests of {function.name}",
            next="Rehearse without `test.integration`, or deploy to AWS. Nothing was changed.",
        )


def _commit(session: Session) -> str:
    commit = session.world.actor.commit
    if "{commit}" in (session.function.image or "") and not commit:
        raise UsageError(
            "the image's tag is {commit}, and no git commit is checked out here",
            where=f"function.{session.function.name}.image",
            next="Deploy from a git checkout, or name the tag.",
        )
    return commit


def _place(repository: str) -> tuple[str, str, str]:
    """(account, region, repository) of ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME, or ACCOUNT.dkr-ecr.REGION.on.aws."""
    host, _, name = repository.partition("/")
    account, rest = host.split(".", 1)
    region = rest.replace("dkr-ecr", "dkr.ecr").removeprefix("dkr.ecr").removeprefix("-fips").split(".")[1]
    return account, region, name


def arn(image: str) -> str:
    """The repository's, as policies name it."""
    account, region, name = _place(reference(image)[0])
    return f"arn:{partition(region)}:ecr:{region}:{account}:repository/{name}"


def _stand_in(session: Session, repository: str, tag: str) -> None:
    """A manifest of nothing under that tag, where a rehearsal has no registry to push to."""
    empty = b"{}"
    config = {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": len(empty),
        "digest": f"sha256:{hashlib.sha256(f'{repository}:{tag}'.encode()).hexdigest()}",
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": config,
        "layers": [],
    }
    with contextlib.suppress(Conflict):
        session.gateway.create_repository(repository)
    session.gateway.put_image(repository, tag, json.dumps(manifest))
    session.say(f"rehearsal: put a stand-in for image {repository}:{tag} into the local ECR, where it was missing")
