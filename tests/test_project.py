"""The project's files agree with each other: conf/ and params.yaml, dvc.yaml and the imports, lock and pyproject."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from packaging.requirements import Requirement

from reviewtune.core.config.loading import compose_text

PROJECT = Path(__file__).parent.parent
STAGES = sorted(path.stem for path in (PROJECT / "stages").glob("*.py") if path.stem != "sweep")


def pipeline() -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", {}) | {k: v for k, v in stage.items() if k != "do"} for name, stage in stages.items()}


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("reviewtune", cache_dir=None)


def needed_packages(stage: Path) -> set[str]:
    """Packages of the library, and modules outside of any, that a stage imports directly or through others."""
    graph, modules = imports(), set[str]()
    for node in ast.walk(ast.parse(stage.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("reviewtune."):
            modules |= {node.module, *graph.find_upstream_modules(node.module)}
            names = {f"{node.module}.{alias.name}" for alias in node.names} & graph.modules
            modules = modules.union(names, *(graph.find_upstream_modules(name) for name in names))
    return {_path(module.split(".")[1]) for module in modules if "." in module}


def _path(name: str) -> str:
    return f"reviewtune/{name}" if (PROJECT / "reviewtune" / name).is_dir() else f"reviewtune/{name}.py"


def test_params_yaml_is_what_conf_says() -> None:
    """If it fails, run `make params`."""
    assert (PROJECT / "params.yaml").read_text() == compose_text(conf=PROJECT / "conf")


def test_the_reference_is_what_the_code_says() -> None:
    """If it fails, run `make docs`."""
    command = [sys.executable, "tools/reference.py", "--check"]
    # neither the terminal's width nor its colours may reach the pages
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "40", "FORCE_COLOR": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_stage_file_is_a_stage_and_the_reverse() -> None:
    assert sorted(pipeline()) == STAGES
    assert len(STAGES) == 9


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_exactly_the_packages_that_a_stage_imports(stage: str) -> None:
    deps = {dep for dep in pipeline()[stage]["deps"] if dep.startswith(("reviewtune/", "stages/"))}
    assert deps == needed_packages(PROJECT / "stages" / f"{stage}.py") | {f"stages/{stage}.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_is_for(stage: str) -> None:
    assert len(pipeline()[stage]["desc"]) > 20


@pytest.mark.parametrize("stage", STAGES)
def test_tracked_parameters_exist(stage: str) -> None:
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for path in pipeline()[stage].get("params", []):
        value: Any = params
        for key in path.replace("${key}", "linear").split("."):
            assert key in value, path
            value = value[key]


def test_no_stage_depends_on_a_run_json_but_compare() -> None:
    for name, stage in pipeline().items():
        assert name == "compare" or not any("run.json" in dep for dep in stage["deps"])


def test_the_lock_names_no_registry_and_no_torch() -> None:
    lock = (PROJECT / "requirements.lock").read_text()
    assert "://" not in lock
    assert not re.search(r"^(torch|transformers|peft)==", lock, re.MULTILINE)


def test_the_lock_pins_every_dependency_that_pyproject_names() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lock = (PROJECT / "requirements.lock").read_text().lower()
    extras = [
        line
        for name in ("project", "app", "masking", "issues", "dev")
        for line in project["optional-dependencies"][name]
    ]
    for line in [*project["dependencies"], *extras]:
        assert re.search(rf"^{re.escape(Requirement(line).name.lower())}==", lock, re.MULTILINE), line


def test_the_local_stack_is_the_same_list_in_both_places() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    text = (PROJECT / "requirements-local.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    local = map(Requirement, project["optional-dependencies"]["local"])
    wanted = {requirement.name for requirement in local if requirement.name != project["name"]}
    assert {Requirement(line).name for line in lines} == wanted


def test_every_dependency_says_why_it_is_there() -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    block = text[text.index("dependencies = [") : text.index("dev = [")]
    assert not [line for line in block.splitlines() if line.startswith('    "') and "#" not in line]


def test_setup_announces_each_download() -> None:
    """They are quiet and take minutes."""
    rule = (PROJECT / "Makefile").read_text().split("$(STAMP): ")[1].split("\n\n")[0].splitlines()
    steps = [number for number, line in enumerate(rule) if "pip install" in line]
    assert len(steps) == 3
    for count, number in enumerate(steps, start=1):
        assert f'@echo "  {count} of {len(steps)}: ' in rule[number - 1]
    assert "about 3 minutes" in "\n".join(rule[: steps[0]])


PRINTING = (
    "commands",
    "errors.py",
    "core/terminal/progress.py",
    "local_server/__main__.py",
    "local_server/export.py",
    "local_server/fine_tuning/trainer.py",
)
SILENT_MODULES = sorted(
    path
    for path in (PROJECT / "reviewtune").rglob("*.py")
    if not path.relative_to(PROJECT / "reviewtune").as_posix().startswith(PRINTING)
)


def printing_lines(source: str) -> list[int]:
    """Lines that call `print` or make a rich Console for the terminal.

    Allowed are a Console over a buffer (`file=`) and printing to a console that the caller passed.
    """
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return sorted(call.lineno for call in calls if _prints(call))


def _prints(call: ast.Call) -> bool:
    is_console = ast.unparse(call.func).rpartition(".")[2] == "Console"
    is_print = isinstance(call.func, ast.Name) and call.func.id == "print"
    return is_print or (is_console and "file" not in {keyword.arg for keyword in call.keywords})


@pytest.mark.parametrize("path", SILENT_MODULES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_the_library_does_not_print(path: Path) -> None:
    """It reports to the `Progress` that its caller passes."""
    assert printing_lines(path.read_text(encoding="utf-8")) == []


def test_printing_is_recognised() -> None:
    source = """
print(1)
rich.console.Console().print(2)
Console(stderr=True)
console.print(3)
Console(file=buffer).print(4)
"""
    assert printing_lines(source) == [2, 3, 4]
    assert len(SILENT_MODULES) > 80
    assert all((PROJECT / "reviewtune" / name).exists() for name in PRINTING)


HEAVY = (
    "mlflow",
    "openai",
    "pandas",
    "sklearn",
    "scipy",
    "matplotlib",
    "torch",
    "transformers",
    "fastapi",
    "dvc",
    "ray",
)


@pytest.mark.parametrize("module", ["reviewtune", "reviewtune.commands.main", "reviewtune.core.config.config"])
def test_start_up_loads_no_heavy_library(module: str) -> None:
    """They are imported where they are used, so that `--help` and `import reviewtune` stay fast."""
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", sorted(path.parent for path in (PROJECT / "reviewtune").rglob("__init__.py")))
def test_no_package_becomes_a_drawer(package: Path) -> None:
    modules = [path for path in package.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= (6 if package.name == "reviewtune" else 16)
    for module in modules:
        assert ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))), f"{module}: what is it for?"
