"""Commands about labelled reviews: `reviewtune init-data`, `freeze-splits`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def init_data(
    file: Annotated[Path, typer.Argument(help="labelled reviews: a CSV or an .xlsx")],
    name: Annotated[str | None, typer.Option(help="name of the data set; default: after the file")] = None,
    text_column: Annotated[str | None, typer.Option(help="the column that holds the review; default: guessed")] = None,
    label_column: Annotated[str | None, typer.Option(help="the column that holds the label; default: guessed")] = None,
) -> None:
    """Write a first conf/data/NAME.yaml for labelled reviews: columns, language and labels are guessed and shown.

    You write what each label means. A file outside of the project is copied to data/raw/. Nothing is overwritten.

    Example: reviewtune init-data ~/Downloads/reviews.xlsx --name mine
    """
    from reviewtune.commands.data import init_data as command

    command.init_data(file, name=name, text_column=text_column, label_column=label_column)


@app.command()
def freeze_splits() -> None:
    """Freeze the side of every review in data/splits: training, validation or test. Later reviews change none of them.

    Without it, all splits are drawn anew when reviews are added, and scores before and after are of different test
    sets. It writes data/frozen_splits.csv (hash of the text, side): commit that file. From then on frozen reviews keep
    their side whatever is added, removed, relabelled or set in conf/. New reviews go where the proportions by label
    need them, a near-duplicate goes to the side of its relative. The splits of now do not change, and neither does the
    side of a review that is frozen already, so the command may be repeated: after each addition, it freezes the new
    ones. If reviews were added but `dvc repro` has not run since, it freezes the splits from before. To undo it:
    `git checkout HEAD -- data/frozen_splits.csv`.

    Example: reviewtune freeze-splits
    """
    from reviewtune.commands.data import freeze_splits as command

    command.freeze_splits()
