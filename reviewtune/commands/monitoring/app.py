"""The commands about a model after its launch, as the command line knows them."""

import typer

app = typer.Typer()
