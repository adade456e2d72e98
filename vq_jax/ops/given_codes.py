"""Tasks of a masked prior, as masks: which codes of a grid are given, so that it finds the others."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vq_jax.types import Array, Bool, Int, Key

Grid = tuple[int, ...]


def _nothing(rng: Key[Array, ""], grid: Grid) -> Bool[Array, "*s"]:
    return jnp.zeros(grid, bool)


def _first(rng: Key[Array, ""], grid: Grid) -> Bool[Array, "*s"]:
    given = jax.random.randint(rng, (), 1, grid[0])
    return _over_frames(jnp.arange(grid[0]) < given, grid)


def _all_but_last(rng: Key[Array, ""], grid: Grid) -> Bool[Array, "*s"]:
    return _over_frames(jnp.arange(grid[0]) < grid[0] - 1, grid)


def _first_and_last(rng: Key[Array, ""], grid: Grid) -> Bool[Array, "*s"]:
    first_rng, last_rng = jax.random.split(rng)
    first = jax.random.randint(first_rng, (), 1, grid[0] - 1)
    last = jax.random.randint(last_rng, (), 1, grid[0] - first)
    frames = jnp.arange(grid[0])
    return _over_frames((frames < first) | (frames >= grid[0] - last), grid)


def _around_a_box(rng: Key[Array, ""], grid: Grid) -> Bool[Array, "*s"]:
    return ~_box(rng, grid)


def _box(rng: Key[Array, ""], grid: Grid) -> Bool[Array, "*s"]:
    """Draws a box: of each axis any length, and any place for it, are equally likely."""
    inside = jnp.ones(grid, bool)
    for axis, length in enumerate(grid):
        size_rng, place_rng = jax.random.split(jax.random.fold_in(rng, axis))
        size = jax.random.randint(size_rng, (), 1, length + 1)
        start = jax.random.randint(place_rng, (), 0, length - size + 1)
        places = jnp.arange(length)
        along = (places >= start) & (places < start + size)
        shape = [1] * len(grid)
        shape[axis] = length
        inside &= along.reshape(shape)
    return inside


def _part_of_a_box(rng: Key[Array, ""], grid: Grid) -> Bool[Array, "*s"]:
    box = _box(rng, grid)
    return box & ~jnp.all(box)  # a box that is the whole grid leaves nothing to find


def _over_frames(frames: Bool[Array, " T"], grid: Grid) -> Bool[Array, "*s"]:
    return jnp.broadcast_to(frames.reshape(-1, *(1,) * (len(grid) - 1)), grid)


def _draw(task: Callable[[Array, Grid], Array], grid: Grid, rng: Key[Array, ""]) -> Bool[Array, "*s"]:
    return task(rng, grid)


_TASKS: dict[str, tuple[Callable[[Array, Grid], Array], int]] = {
    "generation": (_nothing, 0),
    "prediction": (_first, 2),
    "next": (_all_but_last, 2),
    "interpolation": (_first_and_last, 3),
    "inpainting": (_around_a_box, 0),
    "outpainting": (_part_of_a_box, 0),
}
"""What draws the given codes, and how many codes in time it needs; 0 where no axis need be time."""

TASKS = tuple(_TASKS)


def check_tasks(tasks: tuple[str, ...], grid: Grid) -> None:
    """Checks that grids have what tasks ask for.

    Args:
      tasks: of `TASKS`; one that stands there twice is drawn twice as often.
      grid: lengths of the axes; of three or more, the first is time.

    Raises:
      ValueError: no task, an unknown one, or a task about frames and a grid without enough codes in time.
    """
    if not tasks or set(tasks) - set(TASKS):
        raise ValueError(f"expected tasks out of {', '.join(TASKS)}, at least one, got {tasks!r}")
    for task in tasks:
        needed = _TASKS[task][1]
        if needed and (len(grid) < 3 or grid[0] < needed):
            raise ValueError(
                f"the task {task} is about frames: expected codes of clips with at least {needed} in time, "
                f"got a grid of {grid}"
            )


def given_codes(rng: Key[Array, ""], batch: int, grid: Grid, tasks: tuple[str, ...]) -> Bool[Array, "B *s"]:
    """Draws for each grid a task, and the codes that are given in it.

    `generation`: none. `prediction`: the first n of T codes in time, n uniform in [1, T - 1]. `next`: all but
    the last in time, as where a window slides over a clip. `interpolation`: the first n and the last m.
    `inpainting`: all but a box. `outpainting`: a box. Boxes have any length along each axis, time as well.

    Args:
      rng: random key.
      batch: number of grids B.
      grid: lengths *s of their axes.
      tasks: see `check_tasks`.

    Returns:
      True where a code is given; never everywhere.

    Raises:
      ValueError: see `check_tasks`.

    References:
      Yu et al. 2022, MAGVIT, arXiv:2212.05199, section 3.2 and appendix (tasks as masks). There a task has a
      token, and codes of what is given are of clips with the rest blacked out; here codes alone tell.
    """
    check_tasks(tasks, grid)
    draws = [functools.partial(_draw, _TASKS[task][0], grid) for task in tasks]

    def one(rng: Key[Array, ""]) -> Bool[Array, "*s"]:
        task_rng, own_rng = jax.random.split(rng)
        task: Int[Array, ""] = jax.random.randint(task_rng, (), 0, len(draws))
        given: Array = jax.lax.switch(task, draws, own_rng)
        return given

    drawn: Array = jax.vmap(one)(jax.random.split(rng, batch))
    return drawn
