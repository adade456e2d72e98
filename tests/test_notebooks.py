"""Every notebook runs from top to bottom at smoke size, is stored with small outputs, and installs vq_jax."""

import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def read(path):
    import nbformat

    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_there_is_a_notebook():
    assert NOTEBOOKS


@each_notebook
def test_runs(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("VQ_JAX_SMOKE", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    # A kernel without this package must fail at the import, not install another copy of it.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    client = NotebookClient(read(path), timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()


@each_notebook
def test_is_valid_and_stored_with_the_outputs_of_one_run(path):
    import nbformat

    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data"}
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}


@each_notebook
def test_outputs_are_small_pictures_and_name_no_machine(path):
    kinds = [set(output.get("data", {})) for cell in code_cells(path) for output in cell.outputs]
    assert sum("image/jpeg" in kind for kind in kinds) >= 3 and not any("image/png" in kind for kind in kinds)
    assert path.stat().st_size < 400_000
    text = "".join(output.get("text", "") for cell in code_cells(path) for output in cell.outputs)
    assert text and not re.search(r"/(?:home|root|tmp|Users|content)/", text)


def install(path, folder, address, monkeypatch):
    """Runs the first cell where vq_jax is missing; returns what it hands to pip, or None."""
    from IPython.core.inputtransformer2 import TransformerManager

    source = code_cells(path)[0].source
    assert source.count('\nREPOSITORY = ""\n') == 1
    asked = []
    found = sys.modules["vq_jax"]

    class Shell:
        def run_line_magic(self, name, line):
            asked.append((name, line.format(**namespace)))
            sys.modules["vq_jax"] = found

    source = TransformerManager().transform_cell(
        source.replace('REPOSITORY = ""', f"REPOSITORY = {address!r}")
    )
    namespace = {"get_ipython": Shell}
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "vq_jax", None)
    exec(compile(source, path, "exec"), namespace)
    return asked


@each_notebook
def test_the_first_cell_installs_from_the_address_or_from_a_wheel(path, tmp_path, monkeypatch, capsys):
    import vq_jax

    name = "vq-jax[lpips]" if path.stem == "vqgan" else "vq-jax"
    with pytest.raises(ImportError, match="fill in REPOSITORY above, or upload a wheel"):
        install(path, tmp_path, "", monkeypatch)
    monkeypatch.setitem(sys.modules, "vq_jax", vq_jax)
    address = "https://example.org/vq_jax.git"
    wanted = [("pip", f'install --quiet "{name} @ git+{address}"')]
    assert install(path, tmp_path, address, monkeypatch) == wanted
    wheel = tmp_path / "vq_jax-0.1.0-py3-none-any.whl"
    wheel.touch()
    monkeypatch.setitem(sys.modules, "vq_jax", vq_jax)
    assert install(path, tmp_path, "", monkeypatch) == [
        ("pip", f'install --quiet "{name} @ {wheel.as_uri()}"')
    ]
    assert capsys.readouterr().out == f"vq_jax {vq_jax.__version__}\n" * 2
