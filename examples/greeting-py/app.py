"""{name, language?} in; {greeting, alias, version} out."""

from greeting import greet


def alias_of(arn: str) -> str | None:
    """arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER] → the alias; None by number or not qualified."""
    qualifier = (arn.split(":") + [""])[7]
    return None if qualifier == "" or qualifier.isdigit() or qualifier.startswith("$") else qualifier


def handler(event, context):
    # The alias is how one version can behave differently in STAGE and PROD: choose tables, topics … by it.
    return {
        "greeting": greet(event.get("name"), event.get("language", "en")),
        "alias": alias_of(context.invoked_function_arn),
        "version": context.function_version,
    }
