"""The tests. Nothing in them fails because a machine is busy: deadlines only end what would hang."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
