"""The structure of the package, as its imports show it: no circle, one direction, readable modules."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vq_jax"
# A module imports from its own package and from those of lower levels.
LEVELS = {
    **dict.fromkeys(("types", "errors"), 0),
    **dict.fromkeys(("ranges", "host", "ops"), 1),
    "nn": 2,
    "configs": 3,
    **dict.fromkeys(("data", "evaluate", "generate"), 4),
    "runs": 5,
    "pretrained": 6,
    "convert": 7,
    "train": 8,
    "plan": 9,
    "cli": 10,
    "__main__": 11,
}
MAIN_PATH = ("cli/main.py", "train/loop.py", "train/steps/tokenizer.py", "nn/model.py")
PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(module):
    """The project's modules that a module imports, inside functions too, but not for type checkers alone."""
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in PATHS else node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(PATHS[module].read_text()))
    return sorted(name for name in found if name in PATHS and name != "vq_jax")


GRAPH = {module: imported(module) for module in PATHS if module != "vq_jax"}


def part(module):
    return module.split(".")[1]


def lines(path):
    return len(path.read_text().splitlines())


def test_imports_point_one_way():
    unknown = {part(module) for module in GRAPH} - set(LEVELS)
    assert not unknown, f"packages without a level: {unknown}"
    against = [
        f"{module} -> {other}"
        for module, others in GRAPH.items()
        for other in others
        if part(module) != part(other) and LEVELS[part(module)] <= LEVELS[part(other)]
    ]
    assert against == []


def test_no_modules_import_each_other_in_a_circle():
    # A package's __init__ lists its own modules' names; its modules do not import it.
    waiting, done, circles = [], set(), []

    def visit(module):
        if module in waiting:
            circles.append(" -> ".join([*waiting[waiting.index(module) :], module]))
        elif module not in done:
            waiting.append(module)
            for other in GRAPH[module]:
                visit(other)
            waiting.pop()
            done.add(module)

    for module in GRAPH:
        visit(module)
    assert circles == []


def test_the_main_path_reads_in_one_sitting():
    sizes = {name: lines(PACKAGE / name) for name in MAIN_PATH}
    assert sum(sizes.values()) < 900, sizes


def test_no_module_is_above_400_lines():
    assert {str(path.relative_to(ROOT)): lines(path) for path in PATHS.values() if lines(path) > 400} == {}


def test_no_two_folders_use_a_file_name_for_different_things():
    # Each of these names one subject in all its folders, or only says what kind of module it is.
    subjects = """
    __init__ base evaluate files generate mlp noise optimizers options patches plan prior reconstruction
    residual restoration restorer sampling tokenizer
    """
    places = {}
    for path in PATHS.values():
        places.setdefault(path.stem, []).append(str(path.parent.relative_to(PACKAGE)))
    assert {name: at for name, at in places.items() if len(at) > 1 and name not in subjects.split()} == {}


def main():
    """Prints the packages with what each imports from: `python tests/test_structure.py`."""
    for level in sorted(set(LEVELS.values())):
        for name in [name for name in LEVELS if LEVELS[name] == level]:
            modules = [module for module in GRAPH if part(module) == name]
            others = {part(other) for module in modules for other in GRAPH[module]} - {name}
            if modules:
                arrows = " ".join(sorted(others, key=lambda other: (LEVELS[other], other))) or "-"
                print(f"{level}  {name:10} {len(modules):3} modules  <- {arrows}")


if __name__ == "__main__":
    main()
