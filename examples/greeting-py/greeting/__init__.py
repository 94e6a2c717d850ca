"""The words of a greeting."""

from langcodes import closest_supported_match

WORDS = {"en": "Hello", "sv": "Hej", "fr": "Bonjour", "de": "Hallo"}


def greet(name: str, language: str = "en") -> str:
    """`language` is a tag such as sv-FI; what we do not speak is answered in English."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError("name must be a text with something in it")
    return f"{WORDS[closest_supported_match(language, list(WORDS)) or 'en']}, {name.strip()}!"
