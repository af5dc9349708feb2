"""What an application does with the light client, as a program: run in a fresh environment, or with packages blocked.

Arguments: the folder of a served model, and the names of modules that must not be importable, separated by commas.
"""

import asyncio
import sys
from typing import Any


class Without:
    """A finder of modules to which some look as if they were not installed."""

    def __init__(self, finder: Any, names: list[str]) -> None:
        self.finder, self.names = finder, names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        is_missing = name.split(".")[0] in self.names
        return None if is_missing else self.finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


def main(folder: str, blocked: str) -> None:
    sys.meta_path[:] = [Without(finder, blocked.split(",")) for finder in sys.meta_path]
    from reviewtune import ReviewAnalyzer

    analyzer = ReviewAnalyzer(served_model=folder)
    for result in analyzer.classify_reviews(["Still no parcel.", "Broken glass.", " "]):
        print(result.label, result.confidence, result.sure, result.model)
    print(asyncio.run(analyzer.acategorize_issues(["Still no parcel."])))
    try:
        print(analyzer.top_issues(["Still no parcel."])[0].count)
    except Exception as error:
        print(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
