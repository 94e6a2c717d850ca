"""A template as it is sent: what lies in local files packaged for S3, the function's code in it or left out of it.

What `sam package` and `cdk-assets` do, with our package as the function's. Reads files, asks AWS nothing.
"""

from __future__ import annotations

import copy
import hashlib
import re
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pointsman import artifact as packaging
from pointsman import assembly, home
from pointsman.config import CloudFormation
from pointsman.errors import UsageError
from pointsman.model import Artifact, Value, counted, to_json
from pointsman.provision import template as templates
from pointsman.provision import uploads
from pointsman.provision.template import Json
from pointsman.world import Session

Mode = Literal["api", "stack", "parameters"]

# https://docs.aws.amazon.com/cli/latest/reference/cloudformation/package.html: (type, property) → how S3 is named.
_LOCAL: dict[tuple[str, str], str] = {
    ("AWS::Lambda::Function", "Code"): "S3Bucket S3Key zip",
    ("AWS::Serverless::Function", "CodeUri"): "Bucket Key zip",
    ("AWS::Lambda::LayerVersion", "Content"): "S3Bucket S3Key zip",
    ("AWS::Serverless::LayerVersion", "ContentUri"): "Bucket Key zip",
    ("AWS::Serverless::StateMachine", "DefinitionUri"): "Bucket Key",
    ("AWS::StepFunctions::StateMachine", "DefinitionS3Location"): "Bucket Key",
    ("AWS::Serverless::Api", "DefinitionUri"): "Bucket Key",
    ("AWS::Serverless::HttpApi", "DefinitionUri"): "Bucket Key",
    ("AWS::ApiGateway::RestApi", "BodyS3Location"): "Bucket Key",
    ("AWS::ApiGatewayV2::Api", "BodyS3Location"): "Bucket Key",
    ("AWS::AppSync::GraphQLSchema", "DefinitionS3Location"): "s3",
    ("AWS::Serverless::Application", "Location"): "template",
    ("AWS::CloudFormation::Stack", "TemplateURL"): "template",
}
_STAND_IN = {
    "python": "def handler(event, context):\n    raise RuntimeError('a stand-in: its code is not deployed yet')\n",
    "nodejs": "exports.handler = async () => { throw new Error('a stand-in: its code is not deployed yet'); };\n",
}
_BY_THE_API, _IMAGE_BY_THE_API = {"Inline": "by the API"}, {"Image": "by the API"}
"""In digests: whatever it is, it makes no other stack."""


class Upload(Value, frozen=True, kw_only=True):
    """A file and where it goes. `bucket` may hold ${AWS::AccountId} and ${AWS::Region}, as CDK's do."""

    bucket: str
    key: str
    path: str


class Rendered(Value, frozen=True, kw_only=True):
    """`document` is None where the stack keeps its own. `logical_id`: the function's, where the template tells it.

    `digest` names what the stack is to be; code that goes up by the API is not part of it.
    """

    text: str
    document: Json | None
    digest: str
    mode: Mode
    logical_id: str | None
    parameters: dict[str, str]
    capabilities: tuple[str, ...]
    uploads: tuple[Upload, ...]
    bucket: str | None
    aliases: dict[str, str]
    notes: tuple[str, ...] = ()


def render(session: Session, provision: CloudFormation, made: Artifact | None, deployed: Json | None) -> Rendered:
    """What is sent. `deployed` is the stack's present template: code that goes up by the API stays as it is there.

    Without `made` the template is only read, and its local files are left alone. Raises UsageError, BuildFailed.
    """
    return _Rendering(session, provision, made, deployed).rendered()


class _Rendering:
    def __init__(
        self, session: Session, provision: CloudFormation, made: Artifact | None, deployed: Json | None
    ) -> None:
        self.session, self.provision, self.made, self.deployed = session, provision, made, deployed
        root = session.world.project.root
        self.path = root / provision.template if provision.template else None
        self.original = _text(self.path) if self.path else ""
        self.document = templates.read(self.original) if self.path else None
        sam = _samconfig(self.path, root) if self.path else {}
        self.parameters = {**_overrides(sam.get("parameter_overrides")), **provision.parameters}
        own = provision.capabilities
        self.capabilities = own if own is not None else _capabilities(sam.get("capabilities"))
        self.assets, self.images = _assets(self.path) if self.path else ({}, ())
        bucket = session.environment.bucket or sam.get("s3_bucket")
        if bucket is None and session.world.staged:
            bucket = f"pointsman-rehearsal-{session.environment.account or 'local'}"
        self.bucket: str | None = bucket
        self.image = session.function.build == "image"
        self.uploads: dict[tuple[str, str], Upload] = {}
        self.notes: list[str] = []

    def rendered(self) -> Rendered:
        provision, document = self.provision, self.document
        parameters = dict(self.parameters)
        if document is not None and self.session.world.staged:
            from pointsman.provision import rehearsal

            account = self.session.environment.account or "123456789012"
            document, left_out = rehearsal.without(document, account)
            there = rehearsal.runtimes(self.session.world.environ.get("AWS_ENDPOINT_URL", ""))
            document, others = rehearsal.with_runtimes(document, there)
            self.notes += [*left_out, *others]
        logical = templates.logical_id(document, provision.function, parameters) if document else None
        aliases = templates.own_aliases(document, logical, parameters) if document and logical else {}
        mode = self._mode(document, logical, aliases)
        marked = document
        if document is not None and self.made is not None:
            document, marked = self._packaged(document, logical, mode)
        if mode == "parameters" and self.made is not None:
            parameters |= self._code_parameters()
        tags = dict(provision.tags)
        asked = to_json([marked, provision.stack, provision.function, parameters, tags])
        return Rendered(
            text=self.original if document is None or document == self.document else templates.written(document),
            document=document,
            digest=hashlib.sha256(asked).hexdigest(),
            mode=mode,
            logical_id=logical,
            parameters=parameters,
            capabilities=self.capabilities,
            uploads=tuple(self.uploads.values()),
            bucket=self.bucket,
            aliases=aliases,
            notes=tuple(self.notes),
        )

    # The function's own code

    def _mode(self, document: Json | None, logical: str | None, aliases: Mapping[str, str]) -> Mode:
        """Who brings the code. A stack with versions or aliases of its own must know of it, or they stay behind."""
        if self.provision.code_parameters:
            return "parameters"
        if self.provision.code:
            return self.provision.code
        if document is None or logical is None or not self._is_local(document, logical):
            return "api"
        environments = {str(each.alias) for each in self.session.world.project.environments.values()}
        moved = self.provision.stack_alias == "move" and environments & set(aliases)
        if self.session.environment.branch:
            return "api"  # by the stack, a branch's build would be what the template's own alias serves
        if moved or not templates.publishes(document, logical, self.parameters):
            return "api"
        if self.bucket or self.image or self._asset(templates.code(document, logical)):
            return "stack"
        names = ", ".join(aliases) or "its versions"
        self.notes.append(
            f"{names} of the template stays at the code the stack has: set `bucket` in "
            f"[environment.{self.session.place.name}], and the stack brings every build"
        )
        return "api"

    def _is_local(self, document: Json, logical: str) -> bool:
        """Whether the function's code lies on this machine: a path, an asset of CDK's, an image for SAM to build."""
        if templates.of_image(document, logical):
            return not templates.in_registry(templates.image(document, logical))
        given = templates.code(document, logical)
        return templates.is_local(given) or self._asset(given) is not None

    def _asset(self, given: Any) -> Upload | None:
        """Which of CDK's assets a place in S3 is."""
        key = given.get("S3Key") if isinstance(given, dict) else None
        return self.assets.get(key) if isinstance(key, str) else None

    def _packaged(self, document: Json, logical: str | None, mode: Mode) -> tuple[Json, Json]:
        """The document as it is sent, and as its digest knows it."""
        assert self.made is not None
        document = self._explicit(document)
        document, marked = self._of_others(document, logical)
        if logical is not None:
            self._must_fit(document, logical)
        if logical is not None and self._is_local(document, logical) and mode != "parameters":
            asset = self._asset(templates.code(document, logical))
            given = self._package(asset) if mode == "stack" else self._left(document, logical, asset)
            marked = templates.with_code(marked, logical, given if mode == "stack" else _hidden(document, logical))
            document = templates.with_code(document, logical, given)
        elif mode == "stack" and logical is not None:
            given = self._package(None)
            document, marked = (templates.with_code(each, logical, given) for each in (document, marked))
        named = templates.written(document)
        if images := [each for each in self.images if each in named]:
            self.notes.append(
                f"{counted(len(images), 'container image')} of {self.provision.template} must be in ECR already: "
                "`npx cdk-assets publish` pushes them"
            )
        for each in self.assets.values():
            if each.key in named or each.key.partition(".")[0] in named:
                self._zipped_asset(each)
        return self._others(document), self._others(marked)

    def _of_others(self, document: Json, logical: str | None) -> tuple[Json, Json]:
        """Functions of this stack that other tables of the file release: their code is theirs to bring."""
        marked = document
        for each in self.session.world.project.functions.values():
            other = each.provision
            if not isinstance(other, CloudFormation) or other.stack != self.provision.stack:
                continue
            named = templates.logical_id(document, other.function, self.parameters)
            if named is None or named == logical or not self._is_local(document, named):
                continue
            held = templates.deployed_code(self.deployed, named) if self.deployed is not None else None
            if held is None and templates.of_image(document, named):
                theirs = self.session.world.packages.get(each.name)
                held = {"Image": theirs.image} if theirs and theirs.image else None
            elif held is None:
                held = self._stand_in(document, named)
            if held is not None:
                document = templates.with_code(document, named, held)
            marked = templates.with_code(marked, named, _hidden(document, named))
        return document, marked

    def _left(self, document: Json, logical: str, asset: Upload | None) -> Json:
        """What the stack has; before there is one our package, or without a bucket a stand-in."""
        if self.deployed is not None and (held := templates.deployed_code(self.deployed, logical)):
            return held
        if self.bucket or asset or self.image:
            return self._package(asset)
        stand_in = self._stand_in(document, logical)
        if stand_in is None:
            raise self._needs_bucket(f"the code of {logical}")
        return stand_in

    def _stand_in(self, document: Json, logical: str) -> Json | None:
        """A few lines in the template, where the runtime takes code so."""
        runtime = str(templates.setting(document, logical, "Runtime") or self.session.function.runtime or "")
        family = next((each for each in _STAND_IN if runtime.startswith(each)), None)
        return {"Inline": _STAND_IN[family]} if family else None

    def _package(self, asset: Upload | None) -> Json:
        made = self.made
        assert made is not None
        if made.image:
            return {"Image": made.image}
        bucket = asset.bucket if asset else self.bucket
        if bucket is None:
            raise self._needs_bucket("the package")
        self._upload(Upload(bucket=bucket, key=uploads.key_of(made), path=made.path))
        place: Any = {"Fn::Sub": bucket} if "${" in bucket else bucket
        return {"Bucket": place, "Key": uploads.key_of(made)}

    def _code_parameters(self) -> dict[str, str]:
        """The object's version is known only once it is there."""
        names = self.provision.code_parameters
        assert names is not None
        assert self.made is not None
        if names.image is not None:
            return {names.image: self.made.image}
        assert names.key is not None
        if self.bucket is None:
            raise self._needs_bucket("the package")
        self._upload(Upload(bucket=self.bucket, key=uploads.key_of(self.made), path=self.made.path))
        given = {names.key: uploads.key_of(self.made)}
        return given | ({names.bucket: self.bucket} if names.bucket else {})

    def _must_fit(self, document: Json, logical: str) -> None:
        """A zip for a function of zips, an image for one of images: no stack makes the one of the other."""
        if templates.of_image(document, logical) == self.image:
            return
        has, given = ("a zip", "an image") if self.image else ("an image", "a zip")
        raise UsageError(
            f"{logical} is to have {has}, and {given} is to be deployed",
            where=f"template {self.provision.template}",
            next="PackageType: Image makes it one of an image."
            if self.image
            else f"Name it in function.{self.session.function.name}: `image` (docs/images.md).",
        )

    # Everything else that lies in local files

    def _explicit(self, document: Json) -> Json:
        """SAM's Globals and default say where code lies: written out, for a place in S3 is each function's own."""
        folder = templates.global_(document, "CodeUri")
        sam = [name for name, body in templates.functions(document).items() if body["Type"] == templates.SAM_FUNCTION]
        if not sam:
            return document
        document = copy.deepcopy(document)
        if templates.is_local(folder):
            del document["Globals"]["Function"]["CodeUri"]
        for name in sam:
            held = document["Resources"][name].setdefault("Properties", {})
            image = "ImageUri" in held or templates.setting(document, name, "PackageType") == "Image"
            said = image or "CodeUri" in held or "InlineCode" in held
            if not said and (folder is None or templates.is_local(folder)):
                held["CodeUri"] = folder or "."
        return document

    def _others(self, document: Json) -> Json:
        made = copy.deepcopy(document)
        for name, body in templates.resources(made).items():
            held = templates.properties(body)
            self._refuse_images(name, body)
            for (kind, key), form in _LOCAL.items():
                given = held.get(key)
                if body["Type"] == kind and templates.is_local(given):
                    assert isinstance(given, str)
                    held[key] = self._stored(name, body, key, given, form)
        return made

    def _refuse_images(self, name: str, body: Json) -> None:
        held = templates.properties(body)
        if held.get("PackageType") == "Image" and not ("ImageUri" in held or "ImageUri" in (held.get("Code") or {})):
            raise UsageError(
                f"{name} is a container image that is still to be built",
                where=f"template {self.provision.template}",
                next="`sam build` and push it to ECR, and give its ImageUri.",
            )

    def _stored(self, name: str, body: Json, key: str, given: str, form: str) -> Any:
        """Where in S3 a local path will lie, in the words the property takes."""
        assert self.path is not None
        path = (self.path.parent / given).resolve()
        if not path.exists():
            raise UsageError(
                f"{name}.{key} is {given}, and there is no {path}",
                where=f"template {self.provision.template}",
                next="Build it first (`sam build`), or correct the path.",
            )
        if self.bucket is None:
            raise self._needs_bucket(f"{name}.{key}, {given},")
        prefix = f"pointsman/{name}"
        if form.endswith("zip"):
            path = self._zip(name, body, path)
        elif form == "template":
            path = self._nested(path)
            prefix = "pointsman/templates"
        object_key = f"{prefix}/{_hex(path)}{path.suffix}"
        self._upload(Upload(bucket=self.bucket, key=object_key, path=str(path)))
        match form.split():
            case ["template"]:
                return url(self.bucket, object_key, self.session.wire.region)
            case ["s3"]:
                return f"s3://{self.bucket}/{object_key}"
            case [bucket_word, key_word, *_]:
                return {bucket_word: self.bucket, key_word: object_key}
        raise AssertionError(f"unreachable: {form}")

    def _zip(self, name: str, body: Json, path: Path) -> Path:
        """A folder as a zip: with its dependencies where its sources say which, else as it is."""
        if path.is_file():
            return path
        metadata = body.get("Metadata")
        method = str((isinstance(metadata, dict) and metadata.get("BuildMethod")) or "")
        built = ".aws-sam" in path.parts
        layer = body["Type"].endswith("::LayerVersion")
        root = re.match(r"(python|nodejs)[0-9]", method) if layer and not built else None
        if method and not built and not root:
            raise UsageError(
                f"{name} is to be built by {method} first",
                where=f"template {self.provision.template}",
                next="`sam build`, and name .aws-sam/build/template.yaml as `template`.",
            )
        runtime = method if root else templates.properties(body).get("Runtime")
        runtime = str(runtime or templates.global_(self.document or {}, "Runtime") or "")
        kind: Literal["python", "node", "zip"] = "zip"
        if not built and (root or not layer):
            if runtime.startswith("python") and (path / "requirements.txt").exists():
                kind = "python"
            elif runtime.startswith("nodejs") and (path / "package.json").exists():
                kind = "node"
        made = self._archive(name, path, kind, runtime or None)
        if root is None:
            return made
        # What SAM builds of a layer lies in the folder where its runtime looks for it.
        folder = made.with_suffix("")
        with zipfile.ZipFile(made) as archive:
            archive.extractall(folder / root[1])
        return self._archive(f"{name}-layer", folder, "zip", None)

    def _archive(self, name: str, path: Path, kind: Literal["python", "node", "zip"], runtime: str | None) -> Path:
        world = self.session.world
        kept = home.make(world.project.root)
        recipe = packaging.Recipe(
            function=name, source=str(path), build=kind, runtime=runtime, artifact="." if kind == "zip" else None
        )
        made = packaging.build(
            recipe, out=kept / "artifacts", cache=kept / "cache", environment=world.environ, say=world.say
        )
        return Path(made.path)

    def _zipped_asset(self, asset: Upload) -> None:
        path = Path(asset.path)
        if not path.exists():
            raise UsageError(f"there is no asset {path}", next="`cdk synth` makes it anew.")
        if path.is_dir():
            kept = home.make(self.session.world.project.root)
            # By its hash, which is CDK's key as well: "asset" keeps its name short.
            recipe = packaging.Recipe(function="asset", source=str(path), build="zip", artifact=".")
            world = self.session.world
            path = Path(
                packaging.build(
                    recipe,
                    out=kept / "artifacts" / Path(asset.key).stem,
                    cache=kept / "cache",
                    environment=world.environ,
                    say=world.say,
                ).path
            )
        self._upload(Upload(bucket=asset.bucket, key=asset.key, path=str(path)))

    def _nested(self, path: Path) -> Path:
        """A nested stack's template, its own local files packaged too."""
        inner = _Rendering(self.session, self.provision, self.made, None)
        inner.path, inner.original, inner.bucket = path, _text(path), self.bucket
        inner.document = templates.read(inner.original)
        document = inner._others(inner._explicit(inner.document))
        self.uploads |= inner.uploads
        if document == inner.document:
            return path
        text = templates.written(document)
        kept = home.make(self.session.world.project.root) / "artifacts"
        kept.mkdir(exist_ok=True)
        made = kept / f"{path.stem}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.template"
        made.write_text(text)
        return made

    def _upload(self, upload: Upload) -> None:
        self.uploads[upload.bucket, upload.key] = upload

    def _needs_bucket(self, what: str) -> UsageError:
        return UsageError(
            f"{what} must go through S3 on its way into the stack",
            where=f"stack {self.provision.stack}",
            next=f"Set `bucket` in [environment.{self.session.place.name}] to a bucket of the stack's region.",
        )


def _hidden(document: Json, logical: str) -> Json:
    return _IMAGE_BY_THE_API if templates.of_image(document, logical) else _BY_THE_API


def url(bucket: str, key: str, region: str) -> str:
    """A template's place, as CloudFormation takes it."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{bucket}.s3.{region}.{suffix}/{key}"


def _hex(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the template {path}: {error}") from error


def _assets(template: Path) -> tuple[dict[str, Upload], tuple[str, ...]]:
    """CDK's assets beside a template of its: files by their key in S3 (the template itself is none), images' hashes."""
    name = template.name.removesuffix(".template.json")
    manifest = template.with_name(f"{name}.assets.json")
    if name == template.name or not manifest.is_file():
        return {}, ()
    said = assembly.read(manifest)
    files = {
        each.key: Upload(bucket=each.bucket, key=each.key, path=str(each.path))
        for each in said.files
        if each.path.name != template.name
    }
    return files, said.images


def _samconfig(template: Path, root: Path) -> dict[str, Any]:
    """What `sam deploy` would be given: the defaults of the samconfig.toml beside the template, or of the project."""
    for folder in (template.parent, root):
        path = folder / "samconfig.toml"
        if path.is_file():
            try:
                found = tomllib.loads(path.read_text())
            except ValueError as error:
                raise UsageError(f"{path} is not TOML: {error}") from error
            default = found.get("default", {})
            given: dict[str, Any] = {}
            for command in ("global", "package", "deploy"):
                given |= default.get(command, {}).get("parameters", {})
            return given
    return {}


def _overrides(given: Any) -> dict[str, str]:
    """`parameter_overrides`: a list of, or one text of, Key=Value or Key="a value", as SAM writes them."""
    import shlex

    match given:
        case dict():
            return {str(key): str(value) for key, value in given.items()}
        case str():
            words = shlex.split(given)
        case list():
            words = [word for each in given for word in shlex.split(str(each))]
        case _:
            return {}
    found: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key.startswith("ParameterKey"):  # ParameterKey=A,ParameterValue=b
            key, _, value = value.partition(",ParameterValue=")
        found[key] = value
    return found


def _capabilities(given: Any) -> tuple[str, ...]:
    words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    return tuple(str(each) for each in words) or ("CAPABILITY_IAM",)
