"""Configurations kept by AWS: SSM parameters, AppConfig. Imported when asked for; boto3 when first read."""

from __future__ import annotations

import os

from pointsman_runtime.errors import ConfigurationInvalid, ConfigurationUnreachable
from pointsman_runtime.files import parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Parameters:
    """The SSM parameters under a path, decrypted: `/greeting/STAGE/db/host` is `config["db"]["host"]`.

    Values are text, a StringList a list of them; by a type given to Configuration they become numbers, truth and JSON.
    https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParametersByPath.html
    """

    def __init__(self, path: str, *, max_age: float = 300.0, client: Any = None) -> None:
        if "{alias}" not in path or not path.startswith("/"):
            raise ValueError(f'{path!r} must begin with / and hold {{alias}}, for example "/greeting/{{alias}}"')
        self._path, self.max_age, self._client = path.rstrip("/"), max_age, client
        self.texts = True

    def where(self, name: str) -> str:
        return f"SSM {self._path.replace('{alias}', name)}/"

    def read(self, name: str) -> Any:
        self._client = self._client or _client("ssm")
        path = self._path.replace("{alias}", name)
        found: dict[str, Any] = {}
        asked = {"Path": path, "Recursive": True, "WithDecryption": True}
        try:
            while True:
                page = self._client.get_parameters_by_path(**asked)
                for parameter in page["Parameters"]:
                    value = parameter["Value"]
                    listed = value.split(",") if parameter["Type"] == "StringList" else value
                    self._put(found, name, parameter["Name"][len(path) + 1 :], listed)
                if not page.get("NextToken"):  # a page may be empty, and not the last
                    return found or None
                asked["NextToken"] = page["NextToken"]
        except _refusals() as error:
            raise _unreachable(
                self.where(name), error, "ssm:GetParametersByPath on it, and kms:Decrypt for a key of your own"
            ) from error

    def _put(self, found: dict[str, Any], name: str, key: str, value: Any) -> None:
        *above, last = key.split("/")
        at: Any = found
        for part in above:
            at = at.setdefault(part, {}) if isinstance(at, dict) else at
        if not isinstance(at, dict) or last in at:
            raise ConfigurationInvalid(self.where(name), f"{key} is both a value and a path", "Rename one of them.")
        at[last] = value


class AppConfig:
    """A JSON configuration profile (feature flags, too), with one AppConfig environment per alias.

    Asked of the AppConfig extension where its layer is (which keeps and refreshes by itself), else of AppConfig's API.
    https://docs.aws.amazon.com/appconfig/latest/userguide/appconfig-integration-lambda-extensions.html
    """

    def __init__(
        self,
        application: str,
        profile: str,
        *,
        environment: str = "{alias}",
        max_age: float = 60.0,
        client: Any = None,
    ) -> None:
        self._application, self._profile, self._environment = application, profile, environment
        self.max_age, self._client = max_age, client
        self._sessions: dict[str, _Session] = {}

    def where(self, name: str) -> str:
        return f"AppConfig {self._application}/{self._of(name)}/{self._profile}"

    def _of(self, name: str) -> str:
        return self._environment.replace("{alias}", name)

    def read(self, name: str) -> Any:
        try:
            data = self._by_api(name) if self._client else self._by_extension(name)
        except ConnectionRefusedError:  # the layer is not there
            data = self._by_api(name)
        return parsed(data, self.where(name)) if data else None

    def _by_extension(self, name: str) -> bytes | None:
        import http.client
        from urllib.parse import quote

        port = int(os.environ.get("AWS_APPCONFIG_EXTENSION_HTTP_PORT", "2772"))
        places = ("applications", self._application, "environments", self._of(name), "configurations", self._profile)
        connection = http.client.HTTPConnection("localhost", port, timeout=10)
        try:
            connection.request("GET", "/" + "/".join(quote(place, safe="") for place in places))
            reply = connection.getresponse()
            data = reply.read()
        except ConnectionRefusedError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise ConfigurationUnreachable(self.where(name), f"the extension does not answer ({error!r})") from error
        finally:
            connection.close()
        if reply.status == 404:
            return None
        if reply.status != 200:
            said = data.decode(errors="replace")[:200]
            raise ConfigurationUnreachable(
                self.where(name),
                f"the extension answered {reply.status}: {said}",
                f"Its role needs {MAY_READ}; its log is the function's." * (reply.status in (400, 401, 403)),
            )
        return data

    def _by_api(self, name: str) -> bytes | None:
        import time

        self._client = self._client or _client("appconfigdata")
        session = self._sessions.get(name)
        if session and time.time() < session.not_before:
            return session.data
        try:
            try:
                return self._poll(name, session or self._start(name))
            except self._client.exceptions.BadRequestException:
                if not session:
                    raise
                return self._poll(name, self._start(name))  # the token was used, or is older than a day
        except self._client.exceptions.ResourceNotFoundException:
            self._sessions.pop(name, None)
            return None
        except _refusals() as error:
            raise _unreachable(self.where(name), error, MAY_READ) from error

    def _start(self, name: str) -> _Session:
        started = self._client.start_configuration_session(
            ApplicationIdentifier=self._application,
            EnvironmentIdentifier=self._of(name),
            ConfigurationProfileIdentifier=self._profile,
        )
        return _Session(started["InitialConfigurationToken"])

    def _poll(self, name: str, session: _Session) -> bytes | None:
        """Each token is good for one call; the answer is empty where nothing changed since the last."""
        import time

        self._sessions.pop(name, None)  # whatever happens now, this token is used
        reply = self._client.get_latest_configuration(ConfigurationToken=session.token)
        after = _Session(reply["NextPollConfigurationToken"])
        after.data = reply["Configuration"].read() or session.data
        after.not_before = time.time() + reply.get("NextPollIntervalInSeconds", 0)
        self._sessions[name] = after
        return after.data


class _Session:
    def __init__(self, token: str) -> None:
        self.token = token
        self.data: bytes | None = None
        self.not_before = 0.0


MAY_READ = "appconfig:StartConfigurationSession and appconfig:GetLatestConfiguration"


def _client(service: str) -> Any:
    import boto3
    from botocore.config import Config

    # botocore's own 60 seconds are longer than most functions live
    return boto3.client(service, config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 3}))


def _refusals() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError


def _unreachable(where: str, error: Exception, actions: str) -> ConfigurationUnreachable:
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    denied = "AccessDenied" in code
    return ConfigurationUnreachable(where, str(error).rstrip("."), f"Allow the function's role {actions}." * denied)
