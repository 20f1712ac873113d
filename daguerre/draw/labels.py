r"""LaTeX from names: `z_1` becomes $z_{1}$, `theta` $\theta$, `weight` $\mathrm{weight}$.

Any string is accepted. What LaTeX would read as a command is escaped, and a very long name is
cut; the full name stays in the data of the drawing.

Names of an imported net say more: `encoder.fc` is `fc` in the module `encoder`, `fc@1` the second
call of a module that the net shares, `x[0,2]` one unit of a layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from daguerre.graph import Plate

__all__ = ["GREEK", "index", "is_word", "joined", "label", "path", "plate_label", "word"]

# fmt: off
_SIGNS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon",
    "ζ": "zeta", "η": "eta", "θ": "theta", "ι": "iota", "κ": "kappa",
    "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi",
    "ρ": "rho", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi",
    "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma",
    "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}
# fmt: on
GREEK = {key: rf"\{name}" for sign, name in _SIGNS.items() for key in (sign, name)}
_ESCAPES = {c: rf"\{c}" for c in "_$%#&{} "} | {
    "\\": r"\backslash ",
    "^": r"\text{^}",
    "~": r"\text{~}",
    "'": r"\prime ",
    "|": r"\vert ",
}
_LONGEST, _LONGEST_PATH = 24, 60
_CALL = re.compile(r"(?<=[^.])@([1-9][0-9]{0,8})(?=\.)")
_NAME = re.compile(r"(.+?)(?:@([1-9][0-9]{0,8}))?(?:\[([0-9]+(?:,[0-9]+)*)\])?", re.DOTALL)


def label(name: str, indices: Iterable[str] = ()) -> str:
    r"""Write the name of a variable in LaTeX.

    What follows the first underscore is a subscript; the unit and the indices of plates follow
    it. The name of something inside a module is written as by `word`.

    Args:
        name: Any string.
        indices: LaTeX of the indices, such as `("n", "t")`.

    Example:
        >>> label("z_1"), label("theta"), label("x", ["n"])
        ('z_{1}', '\\theta', 'x_{n}')
        >>> label("hidden_state"), label("100%")
        ('\\mathrm{hidden}_{\\mathrm{state}}', '\\mathrm{100\\%}')
        >>> label("x[0,2]"), label("h_1[3]", ["n"])
        ('x_{0,2}', 'h_{1,3,n}')
    """
    if path(name)[1:]:
        return word(name, indices)
    stem, call, unit = _read(name)
    base, parts = _below(stem)
    below = [*(_word(_cut(part)) for part in parts), *unit, *indices]
    return _word(_cut(base)) + _marks(call, below)


def word(name: str, indices: Iterable[str] = ()) -> str:
    r"""Write the name of a module in LaTeX as the code has it, upright.

    A later call of a shared module carries its number: `fc@1` is the second call of `fc`.

    Args:
        name: Any string.
        indices: LaTeX of the indices of plates.

    Example:
        >>> word("max_pool"), word("fc@1"), word("conv[0,2]")
        ('\\mathrm{max{\\_}pool}', '\\mathrm{fc}^{(2)}', '\\mathrm{conv}_{0,2}')
    """
    stem, call, unit = _read(name)
    if len(stem) > _LONGEST_PATH:  # what comes last says most
        stem = "…" + stem[1 - _LONGEST_PATH :]
    first, *later = _CALL.split(stem)  # text, then the number of a call and text in turn
    calls = zip(map(int, later[::2]), map(_upright, later[1::2]), strict=True)
    inner = "".join(f"^{{({k + 1})}}{text}" for k, text in calls)
    return _upright(first) + inner + _marks(call, [*unit, *indices])


def is_word(name: str) -> bool:
    """Say whether a name is a word of code, not a letter with subscripts.

    Example:
        >>> [is_word(name) for name in ("z_1", "theta", "x[3]", "relu", "net.0")]
        [False, False, False, True, True]
    """
    base, _ = _below(_read(name)[0])
    return len(path(name)) > 1 or not (base in GREEK or (len(base) == 1 and base.isalpha()))


def path(name: str) -> tuple[str, ...]:
    """Split a name into the modules around a variable and its own name there.

    A name with a dot at an end, or two in a row, is one part.

    Example:
        >>> path("layer1.0.conv1"), path("fc[3]"), path("x.")
        (('layer1', '0', 'conv1'), ('fc[3]',), ('x.',))
    """
    parts = tuple(name.split("."))
    return parts if all(parts) else (name,)


def index(plate: Plate) -> str:
    r"""Write the index that runs over a plate: the letter of the plate, in lower case.

    Example:
        >>> index(Plate("N")), index(Plate("batch"))
        ('n', '\\mathrm{batch}')
    """
    name = plate.name
    return label(name.lower() if len(name) == 1 else name)


def plate_label(plate: Plate) -> str:
    r"""Write what stands in the corner of a plate: its count, as an upper-case letter.

    Example:
        >>> plate_label(Plate("n", 100)), plate_label(Plate("batch"))
        ('N = 100', '\\mathrm{batch}')
    """
    name = label(plate.name.upper() if len(plate.name) == 1 else plate.name)
    return name if plate.size is None else f"{name} = {plate.size}"


def joined(parts: Iterable[str]) -> str:
    """Join indices: letters and digits side by side, a comma where they would run together.

    Example:
        >>> joined(["n", "t"]), joined(["1", "n"])
        ('nt', '1,n')
    """
    parts = list(parts)
    return ("" if all(len(p) == 1 and p.isalpha() for p in parts) else ",").join(parts)


def _read(name: str) -> tuple[str, int, list[str]]:
    """Split a name into what it calls, which call that is, and the unit."""
    match = _NAME.fullmatch(name)
    if match is None:
        return name, 0, []
    stem, call, unit = match.groups()
    return stem, int(call or 0), [unit] if unit else []


def _below(stem: str) -> tuple[str, list[str]]:
    """Split a name into a base and its subscripts."""
    base, _, below = stem.partition("_")
    parts = [part for part in below.split("_") if part]
    if not base or (below and len(parts) != below.count("_") + 1):
        return stem, []  # an underscore at an end, or two in a row: part of the name
    return base, parts


def _marks(call: int, below: Iterable[str]) -> str:
    subscript = joined(below)
    lower = f"_{{{subscript}}}" if subscript else ""
    return lower + (f"^{{({call + 1})}}" if call else "")


def _upright(text: str) -> str:
    letters = "".join(map(_escape, text))
    return rf"\mathrm{{{letters}}}".replace(r"\_", r"{\_}")


def _word(text: str) -> str:
    if text in GREEK:
        return GREEK[text]
    if len(text) == 1 and text.isalnum():
        return text
    if text.isdigit():
        return text
    return rf"\mathrm{{{''.join(map(_escape, text))}}}"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else "\ufffd"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
