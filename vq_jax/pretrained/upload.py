"""Models to the Hugging Face hub."""

import logging
import re

from etils import epath

from vq_jax.errors import UserError
from vq_jax.pretrained.hub import FILES, hub_name, reason, require_hub
from vq_jax.pretrained.load import load
from vq_jax.pretrained.model_card import measured_figures, model_card, own_figures
from vq_jax.pretrained.model_directory import CONFIG_FILE, open_model

CARD = "README.md"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_log = logging.getLogger("vq_jax")


def push(
    place: epath.PathLike,
    name: str,
    *,
    step: int | None = None,
    figures: epath.PathLike | None = None,
    license: str | None = None,
    private: bool = False,
) -> str:
    """Uploads a trained model to the Hugging Face hub, with a model card, in one commit.

    The model is read whole before anything is sent. A README.md in a model directory is uploaded instead of
    the card that is written otherwise; it replaces the one on the hub.

    Args:
      place: a run, of which the checkpoint with the lowest validation loss is uploaded, or a model directory;
        local or gs://.
      name: owner/name, with or without hf://. It is made on the hub if it is not there.
      step: of a run, upload the checkpoint of this step.
      figures: file that `vq-jax evaluate RUN -o FILE.json` wrote of this model, for the card; when absent,
        those that the run measured itself.
      license: for the card, an identifier of the hub, such as `apache-2.0`.
      private: make a repository that others do not see; without effect on one that is there.

    Returns:
      The address of the commit.

    Raises:
      UserError: the name has no owner; the package is missing; there is no model, or it is damaged; the
        figures are of another model; or the hub refuses, without a token for instance.
    """
    repository = hub_name(name)
    if license is not None and not _LICENSE.fullmatch(license):
        raise UserError(
            f"expected the license as an identifier of the hub, such as apache-2.0 or mit, got {license!r}"
        )
    require_hub("uploads models")
    files = _files(place, repository, step, figures, license)
    return _commit(repository, files, private)


def _files(
    place: epath.PathLike,
    name: str,
    step: int | None,
    figures: epath.PathLike | None,
    license: str | None,
) -> dict[str, bytes]:
    """The files to upload, by their names: those of the model, and its card."""
    saved = open_model(place)
    trained = load(place, step=step, best=saved is None and step is None)
    lines = measured_figures(figures, trained) if figures is not None else []
    if saved is None:
        lines = lines or own_figures(place, trained.step)
        return {**trained.files(), CARD: model_card(trained, name, lines, license=license).encode()}
    origin = saved.origin()  # which checks what the model has no use for, too
    there = [file for file in FILES if (saved.path / file).exists()]
    files = {file: (saved.path / file).read_bytes() for file in there}
    if (saved.path / CARD).exists():
        _log.info("The card is %s, as it is.", saved.path / CARD)
        return {**files, CARD: (saved.path / CARD).read_bytes()}
    converted = None if origin is None else origin.format
    card = model_card(trained, name, lines, license=license, converted=converted)
    return {**files, CARD: card.encode()}


def _commit(name: str, files: dict[str, bytes], private: bool) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    # the configuration last: it names the digest of the others
    ordered = sorted(files.items(), key=lambda item: item[0].endswith(CONFIG_FILE))
    try:
        api.create_repo(name, private=private, exist_ok=True)
        commit = api.create_commit(
            name,
            operations=[
                CommitOperationAdd(path_in_repo=file, path_or_fileobj=data) for file, data in ordered
            ],
            commit_message="Upload a model with vq-jax",
        )
    except Exception as error:  # of many kinds: of the network, of the hub, of its tokens
        raise UserError(
            f"the Hugging Face hub does not take {name}, and no file was uploaded: {reason(error)}\n"
            "Is there a token that may write there? `hf auth login` asks for one; so does HF_TOKEN"
        ) from error
    return str(commit.commit_url)
