"""Lists in requests."""

from typing import Annotated, TypeVar

from pydantic import Field

Item = TypeVar("Item")
Items = Annotated[list[Item], Field(fail_fast=True)]
"""A list that is read up to its first fault: a body of a million wrong items would otherwise give a million faults."""
