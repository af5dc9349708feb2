"""The local provider depends on almost nothing else in reviewtune, so that it could become a separate package."""

import grimp

ALLOWED = {"reviewtune.errors", "reviewtune.core.user_dirs", "reviewtune.core.text_files"}
PACKAGE = "reviewtune.local_server"


def test_the_server_imports_only_errors_folders_and_the_reader_of_text_files() -> None:
    graph = grimp.build_graph("reviewtune", cache_dir=None)
    own = graph.find_descendants(PACKAGE) | {PACKAGE}
    imported = set().union(*(graph.find_modules_directly_imported_by(module) for module in own))
    assert imported - own == ALLOWED


def test_nothing_imports_the_server() -> None:
    graph = grimp.build_graph("reviewtune", cache_dir=None)
    own = graph.find_descendants(PACKAGE) | {PACKAGE}
    importers = set().union(*(graph.find_modules_that_directly_import(module) for module in own))
    assert importers - own == set()


def test_modules_needed_at_every_start_do_not_import_torch() -> None:
    """Importing torch takes seconds; the server does it when the first model is loaded."""
    graph = grimp.build_graph("reviewtune", cache_dir=None)
    light = {f"{PACKAGE}.engine.types"} | graph.find_descendants(f"{PACKAGE}.engine.base_models")
    for module in light:
        assert graph.find_upstream_modules(module) <= ALLOWED | light
