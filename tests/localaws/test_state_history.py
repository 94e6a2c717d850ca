"""Whatever is called in whatever order: numbers only grow, and every alias names versions that exist."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pointsman.localaws.lambda_ import LambdaError
from tests.conform.local_lambda import package
from tests.localaws.test_state import HERE, ROLE, Clock, opened

FUNCTIONS = st.sampled_from(["f", "g"])
ALIASES = st.sampled_from(["live", "stage"])
SECONDS = st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.0])  # an update takes one second; most callers wait for it
WEIGHT = st.sampled_from([0.5, 0.5, 0.0, 1.0, 1.5])


class History(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.state = opened(self.directory, self.clock)
        self.newest: dict[str, int] = {}  # the highest number ever published, by function
        self.published: dict[tuple[str, int], tuple[str, str]] = {}  # RevisionId and CodeSha256 of each version
        self.create("f", publish=True, seconds=1.0)

    def teardown(self) -> None:
        if hasattr(self, "state"):
            self.state.close()
            shutil.rmtree(self.directory)

    def call(self, operation: str, **given: Any) -> dict[str, Any] | None:
        """The reply; None where it was refused. A refusal must be AWS's, not an accident of ours."""
        try:
            reply: dict[str, Any] = getattr(self.state, operation)(*HERE, given)
        except LambdaError as refused:
            assert refused.status < 500, refused
            return None
        return reply

    def note(self, name: str, reply: dict[str, Any] | None) -> None:
        if reply is None or reply["Version"] == "$LATEST":
            return
        number = int(reply["Version"])
        if (name, number) in self.published:
            latest = self.state.get_function_configuration(*HERE, {"FunctionName": name})
            assert number == self.newest[name]
            assert reply["CodeSha256"] == latest["CodeSha256"], "only what is unchanged may stay unpublished"
        else:
            assert number == self.newest.get(name, 0) + 1
            self.newest[name] = number
        found = self.state.get_function_configuration(*HERE, {"FunctionName": name, "Qualifier": reply["Version"]})
        self.published[name, number] = (found["RevisionId"], found["CodeSha256"])

    def some_version(self, data: st.DataObject, name: str) -> str:
        """Mostly one that is there; else one that was, or never will be."""
        there = [str(number) for known, number in self.published if known == name]
        return data.draw(st.sampled_from([*there * 3, "$LATEST", "1", "99"]))

    @rule(name=FUNCTIONS, publish=st.booleans(), seconds=SECONDS)
    def create(self, name: str, publish: bool, seconds: float) -> None:
        code = {"ZipFile": package()}
        given = {"Role": ROLE, "Runtime": "python3.11", "Handler": "index.handler", "Code": code, "Publish": publish}
        self.note(name, self.call("create_function", FunctionName=name, **given))
        self.clock.seconds += seconds

    @rule(name=FUNCTIONS, build=st.sampled_from(["one", "two"]), publish=st.booleans(), seconds=SECONDS)
    def update_code(self, name: str, build: str, publish: bool, seconds: float) -> None:
        given = {"ZipFile": package(build), "Publish": publish}
        self.note(name, self.call("update_function_code", FunctionName=name, **given))
        self.clock.seconds += seconds

    @rule(name=FUNCTIONS, publish=st.booleans())
    def dry_run(self, name: str, publish: bool) -> None:
        given = {"ZipFile": package("three"), "Publish": publish, "DryRun": True}
        self.call("update_function_code", FunctionName=name, **given)

    @rule(name=FUNCTIONS, role=st.sampled_from([ROLE, f"{ROLE}2"]), seconds=SECONDS)
    def update_role(self, name: str, role: str, seconds: float) -> None:
        self.call("update_function_configuration", FunctionName=name, Role=role)
        self.clock.seconds += seconds

    @rule(name=FUNCTIONS)
    def publish(self, name: str) -> None:
        self.note(name, self.call("publish_version", FunctionName=name))

    @rule(name=FUNCTIONS, data=st.data())
    def delete_version(self, name: str, data: st.DataObject) -> None:
        version = self.some_version(data, name)
        if self.call("delete_function", FunctionName=name, Qualifier=version) is not None:
            self.published.pop((name, int(version)), None)

    @rule(name=FUNCTIONS, surely=st.integers(0, 5))
    def delete(self, name: str, surely: int) -> None:
        if surely < 5:  # a history that is wiped too often never gets anywhere
            return
        if self.call("delete_function", FunctionName=name) is not None:
            self.published = {key: value for key, value in self.published.items() if key[0] != name}

    @rule(name=FUNCTIONS, alias=ALIASES, data=st.data(), additional=st.sampled_from([None, 0, 1, 1, 1, 2]))
    def put_alias(self, name: str, alias: str, data: st.DataObject, additional: int | None) -> None:
        version = self.some_version(data, name)
        given: dict[str, Any] = {"FunctionName": name, "Name": alias, "FunctionVersion": version}
        if additional is not None:
            weights = {self.some_version(data, name): data.draw(WEIGHT) for _ in range(additional)}
            given["RoutingConfig"] = {"AdditionalVersionWeights": weights}
        if self.call("create_alias", **given) is None:
            self.call("update_alias", **given)

    @rule(name=FUNCTIONS, alias=ALIASES)
    def delete_alias(self, name: str, alias: str) -> None:
        self.call("delete_alias", FunctionName=name, Name=alias)

    @rule()
    def wait(self) -> None:
        self.clock.seconds += 1

    @rule()
    def restart(self) -> None:
        self.state.close()
        self.state = opened(self.directory, self.clock)

    @precondition(lambda self: hasattr(self, "state"))
    @invariant()
    def what_was_published_is_there_and_as_it_was(self) -> None:
        seen = {}
        for found in self.state.list_functions(*HERE, {"FunctionVersion": "ALL"})["Functions"]:
            if found["Version"] != "$LATEST":
                seen[found["FunctionName"], int(found["Version"])] = (found["RevisionId"], found["CodeSha256"])
        assert seen == self.published

    @precondition(lambda self: hasattr(self, "state"))
    @invariant()
    def every_alias_names_versions_that_exist_and_may_share_it(self) -> None:
        for function in self.state.list_functions(*HERE, {})["Functions"]:
            name = function["FunctionName"]
            for alias in self.state.list_aliases(*HERE, {"FunctionName": name})["Aliases"]:
                weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
                assert len(weights) <= 1
                assert alias["FunctionVersion"] not in weights
                assert not weights or alias["FunctionVersion"] != "$LATEST"
                roles = set()
                for version in (alias["FunctionVersion"], *weights):
                    assert version == "$LATEST" or (name, int(version)) in self.published
                    given = {"FunctionName": name, "Qualifier": version}
                    roles.add(self.state.get_function_configuration(*HERE, given)["Role"])
                assert len(roles) == 1


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
