"""What `init` sees in a folder, and the `pointsman.toml` it writes, which `config.parse` accepts. Reads files only.

One module a source (`terraform`, `cloudformation`, `serverless`, `claudia`, `lambroll`, `plain`), each with a `look`
that gives a `Found`, or None where it recognises nothing; `writing` makes the file of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pointsman.adoption import claudia, cloudformation, lambroll, plain, serverless, terraform
from pointsman.adoption.code import candidate, home_of, node_here, python_here
from pointsman.adoption.found import Candidate, Found, Kind
from pointsman.adoption.tree import Tree
from pointsman.adoption.writing import write
from pointsman.config import Provision
from pointsman.errors import UsageError

# In this order where several lie equally near: those whose one file is nothing but the function come first.
SOURCES: dict[str, Callable[[Tree], Found | None]] = {
    "lambroll": lambroll.look,
    "claudia": claudia.look,
    "serverless": serverless.look,
    "cdk": cloudformation.look_cdk,
    "cloudformation": cloudformation.look,
    "terraform": terraform.look,
}


def look(folder: Path, kind: str | None = None) -> Found:
    """What to deploy from `folder`: as the nearest of its owners has it, or the one asked for; else its own handler.

    Raises UsageError where what was asked for is not there.
    """
    tree = Tree(folder)
    if kind == "plain":
        return plain.look(tree)
    wanted = "cloudformation" if kind == "sam" else kind
    found = [each for name, look in SOURCES.items() if wanted in (None, name) and (each := look(tree))]
    if not found:
        if kind:
            raise UsageError(f"there is nothing of {kind} in {folder}", next="`pointsman init` takes what there is.")
        return plain.look(tree)
    best = min(
        found, key=lambda each: (not any(one.handler or one.build == "image" for one in each.functions), each.depth)
    )
    others = sorted({each.kind for each in found} - {best.kind})
    if not others:
        return best
    from msgspec.structs import replace

    ways = " or ".join(f"`pointsman init --from {each}`" for each in others)
    chosen = f"{best.kind} was taken, as the nearest; {ways} takes the other."
    return replace(best, notes=(chosen, *best.notes))


def sources_of(
    folder: Path, name: str, notes: list[str], *, handler: str | None, runtime: str | None, provision: Provision
) -> Candidate:
    """A function that AWS has and no file here declares, with the folder's code where its handler is found."""
    tree = Tree(folder)
    source = home_of(tree, handler, runtime)
    if source is None:
        notes.append(
            f"The code of {name} was not found here: no file is its handler, {handler or 'which AWS does not say'}. "
            "Say where in `source`."
        )
    return candidate(
        tree, source or ".", name, notes, handler=handler, runtime=runtime, provision=provision, name=name, where="AWS"
    )


__all__ = ["Candidate", "Found", "Kind", "look", "node_here", "python_here", "sources_of", "write"]
