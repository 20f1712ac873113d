r"""LaTeX from names: `z_1` becomes $z_{1}$, `theta` $\theta$, `weight` $\mathrm{weight}$.

Any string is accepted. What LaTeX would read as a command is escaped, and a very long name is
cut; the full name stays in the data of the drawing.
"""

from __future__ import annotations

from collections.abc import Iterable

from daguerre.graph import Plate

__all__ = ["index", "joined", "label", "plate_label"]

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
_GREEK = {key: rf"\{name}" for sign, name in _SIGNS.items() for key in (sign, name)}
_ESCAPES = {c: rf"\{c}" for c in "_$%#&{} "} | {
    "\\": r"\backslash ",
    "^": r"\text{^}",
    "~": r"\text{~}",
    "'": r"\prime ",
    "|": r"\vert ",
}
_LONGEST = 24


def label(name: str, indices: Iterable[str] = ()) -> str:
    r"""Write the name of a variable in LaTeX.

    What follows the first underscore is a subscript; the indices of plates follow it.

    Args:
        name: Any string.
        indices: LaTeX of the indices, such as `("n", "t")`.

    Example:
        >>> label("z_1"), label("theta"), label("x", ["n"])
        ('z_{1}', '\\theta', 'x_{n}')
        >>> label("hidden_state"), label("100%")
        ('\\mathrm{hidden}_{\\mathrm{state}}', '\\mathrm{100\\%}')
    """
    base, _, below = name.partition("_")
    parts = [part for part in below.split("_") if part]
    if not base or (below and len(parts) != below.count("_") + 1):
        base, parts = name, []  # an underscore at an end, or two in a row: part of the name
    subscript = joined([*(_word(_cut(part)) for part in parts), *indices])
    return _word(_cut(base)) + (f"_{{{subscript}}}" if subscript else "")


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


def _word(text: str) -> str:
    if text in _GREEK:
        return _GREEK[text]
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
