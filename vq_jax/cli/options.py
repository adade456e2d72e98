"""Flags of the commands that draw, made from the dataclasses of the samplers' options."""

import ast
import dataclasses
import inspect
import textwrap
import typing
from typing import Annotated, Any

import tyro

from vq_jax.configs.priors import PRIORS
from vq_jax.configs.sampling import Options


def option_flags() -> type[Any]:
    """Makes a dataclass with all options of all priors, each None where it is not given.

    The help of a flag is the docstring of its field, with the priors that it is for where not all take it.
    """
    found: dict[str, tuple[Any, dict[str, list[str]]]] = {}
    for architecture, prior in PRIORS.items():
        hints, docs = typing.get_type_hints(prior.options), field_docs(prior.options)
        for field in dataclasses.fields(prior.options):
            _, priors = found.setdefault(field.name, (hints[field.name], {}))
            priors.setdefault(docs.get(field.name, ""), []).append(architecture)
    fields = []
    for name, (hint, priors) in found.items():
        everywhere = len(priors) == 1 and len(next(iter(priors.values()))) == len(PRIORS)
        texts = [doc if everywhere else f"{doc} ({', '.join(takes)})" for doc, takes in priors.items()]
        optional: Any = hint | None
        argument = tyro.conf.arg(help=" ".join(texts), help_behavior_hint="(default: the run's)")
        fields.append((name, Annotated[optional, argument], dataclasses.field(default=None)))
    return dataclasses.make_dataclass("OptionFlags", fields, frozen=True)


def given_options(flags: Any) -> dict[str, Any]:
    """The options that the user gave, by name."""
    return {name: value for name, value in vars(flags).items() if value is not None}


def field_docs(options: type[Options]) -> dict[str, str]:
    """The docstrings under the fields of a dataclass and of its bases, each as one line."""
    docs: dict[str, str] = {}
    for base in reversed(options.__mro__):
        if base is object:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        statements = getattr(body, "body", [])
        for field, doc in zip(statements, statements[1:], strict=False):
            match field, doc:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = " ".join(text.split())
    return docs
