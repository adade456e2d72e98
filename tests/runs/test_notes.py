"""Figures of a run that was stopped, and what it says where no program has set up logging."""

import io
import logging
import sys

import pytest

from vq_jax.errors import UserError
from vq_jax.host.streams import forgiving_streams
from vq_jax.runs.notes import Figures, shown_notes


@pytest.mark.parametrize("kind", [KeyError, UserError])
def test_a_figure_that_a_stopped_run_does_not_have_says_what_to_do(kind):
    figures = Figures({"loss": 0.5}, "SIGINT at step 3")
    assert figures["loss"] == 0.5 and figures.get("test/psnr") is None
    with pytest.raises(kind) as caught:
        figures["test/psnr"]
    expected = (
        "there is no figure 'test/psnr' yet: the run was stopped by SIGINT at step 3; call it again to "
    )
    assert str(caught.value) == f"{expected}resume it"


def test_a_misspelt_figure_of_a_finished_run_gets_the_nearest_names():
    with pytest.raises(KeyError, match="'test/psrn' of this run; did you mean test/psnr"):
        Figures({"test/psnr": 20.0})["test/psrn"]


@pytest.mark.parametrize("level, shown", [(logging.NOTSET, True), (logging.WARNING, False)])
def test_notes_are_shown_unless_the_program_has_decided(level, shown, monkeypatch):
    log, stream = logging.getLogger("vq_jax"), io.StringIO()
    monkeypatch.setattr(log, "level", level)
    monkeypatch.setattr(log, "propagate", False)  # pytest has handlers of its own
    monkeypatch.setattr(sys, "stderr", stream)
    with shown_notes():
        log.info("Resuming.")
    log.info("After.")
    assert stream.getvalue() == ("Resuming.\n" if shown else "")
    assert not log.handlers and log.level == level


def test_names_that_a_stream_cannot_show_are_escaped(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    output, messages = sys.stdout, sys.stderr
    with forgiving_streams(output=False):
        print("h\u00e4\udcff.png")
        print("\u4e2d", file=sys.stderr)
    output.flush()
    assert output.buffer.getvalue() == b"h\\xe4\\udcff.png\n" and messages.buffer.getvalue() == b"\\u4e2d\n"
    assert output.errors == "strict"
