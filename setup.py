"""How `pip install -e` shows the package: by its folder, where type checkers find it too.

Left to itself, setuptools installs a function that finds modules at run time, since the presets have another
name in the wheel (`vq_jax._experiments`) than here (`experiments`), where they are found without it.
"""

from setuptools import setup
from setuptools.command.editable_wheel import editable_wheel


class FolderOnThePath(editable_wheel):
    """Leaves out what only the wheel has another place for."""

    def finalize_options(self) -> None:
        elsewhere = self.distribution.package_dir or {}
        packages = self.distribution.packages or []
        self.distribution.packages = [name for name in packages if name not in elsewhere]
        self.distribution.package_dir = {"": "."}
        super().finalize_options()


setup(cmdclass={"editable_wheel": FolderOnThePath})
