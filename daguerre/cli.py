"""The command line: each command is one call of the library."""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import daguerre as dg
from daguerre.data import Split
from daguerre.demo import demo as run_demo
from daguerre.devices import device_named
from daguerre.draw import unit_figure
from daguerre.evaluate.images import grid, write_png
from daguerre.files import write_whole
from daguerre.gallery import GAMES
from daguerre.game import Game
from daguerre.graph import did_you_mean, graph_of
from daguerre.query import (
    answer_file,
    answer_table,
    check_targets,
    parse_given,
    read_evidence_rows,
    read_file,
    variables,
)
from daguerre.runs import Run, pictures, read_game, read_run, samples, train
from daguerre.runs_export import export_run
from daguerre.runs_repeat import compared, stamped
from daguerre.runs_scores import Asked, score_run
from daguerre.runs_table import compare, curves, find_runs
from daguerre.settings import parse_settings
from daguerre.structure import read_statement, separation
from daguerre.train.processes import processes

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Deep latent-variable models as directed graphs: fit, sample, draw and check them.",
)

Name = Annotated[str, typer.Argument(help="vae, gan, or module:Class of your own.")]
Auxiliary = Annotated[str | None, typer.Option(help="module:Class, for a model of your own.")]
Maker = Annotated[str | None, typer.Option(help="The module:Class that made the run.")]
Moved = Annotated[str | None, typer.Option(help="Where the data are now, if they have moved.")]
MovedFolder = Annotated[Path | None, typer.Option(help="Where the folder of the data is now.")]
Threads = Annotated[int, typer.Option(min=1, help="Small nets are fastest on one thread.")]


@app.command()
def fit(  # noqa: PLR0913 - options of a command
    name: Name,
    out: Annotated[Path, typer.Option(help="Folder of the run; must not hold one.")],
    data: Annotated[str, typer.Option(help="digits, mnist, fashion_mnist or a .npy.")] = "digits",
    folder: Annotated[
        Path | None, typer.Option(envvar="DAGUERRE_DATA", help="Folder that holds mnist/ ...")
    ] = None,
    q: Auxiliary = None,
    critic: Auxiliary = None,
    epochs: Annotated[float | None, typer.Option(min=0, help="Passes through the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    lr: Annotated[float | None, typer.Option(min=0)] = None,
    seed: int = 0,
    compile: Annotated[  # noqa: A002 - torch's word for it
        bool | None, typer.Option(help="One graph per step; by default if worth it.")
    ] = None,
    set: Annotated[  # noqa: A002 - the word that people look for
        list[str] | None,
        typer.Option(
            help="key=value or key.player=value: updates.critic=5, clip=1, average=0.999, ..."
        ),
    ] = None,
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    *,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write OUT/tensorboard as well.")
    ] = False,
) -> None:
    """Fit a model into a folder: checkpoints, losses, samples, weights, picture."""
    torch.set_num_threads(threads)
    split = _data(data, folder)
    asked = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "compile": compile}
    settings = {k: v for k, v in asked.items() if v is not None} | {"seed": seed}
    device_named(device)  # before anything is written
    options = {"q": q, "critic": critic, "threads": threads, "tensorboard": tensorboard}
    options["device"] = device
    run = Run(
        name,
        str(Path(data).resolve()) if data.endswith(".npy") else data,
        split.train["x"][0].numel(),
        options=options,
        settings=settings | parse_settings(set or []),
        folder=str(folder.resolve()) if folder else None,
    )
    _train(out, stamped(run, split), split, resume=False)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="The folder of a run that has not come to its end.")],
    model: Maker = None,
    data: Moved = None,
    folder: MovedFolder = None,
) -> None:
    """Go on with a run from its newest checkpoint, as if it had never ended."""
    made, split = _reopened(run, data, folder)
    _train(run, made, split, resume=True, trust=model == made.name)


@app.command()
def repeat(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path, typer.Option(help="Folder of the new run; must not hold one.")],
    model: Maker = None,
    data: Moved = None,
    folder: MovedFolder = None,
) -> None:
    """Do a run again with the same data, settings and seed, and compare the weights."""
    made, split = _reopened(run, data, folder)
    again = stamped(made, split)
    if made.checksum not in ("", again.checksum):
        raise ValueError(f"{run} was fitted to other data: {made.checksum}, not {again.checksum}")
    _train(out, again, split, resume=False, trust=model == made.name)
    typer.echo(compared(run, out))


@app.command()
def runs(
    folders: Annotated[list[Path] | None, typer.Argument(help="Runs, or folders of runs.")] = None,
    plot: Annotated[Path | None, typer.Option(help="A .svg of their losses in one.")] = None,
) -> None:
    """List runs, and compare them: settings, steps, losses, validation."""
    found = find_runs(folders or [Path("runs")])
    typer.echo(compare(found))
    if plot is not None:
        write_whole(plot, curves(found).encode())
        typer.echo(f"wrote {plot}")


@app.command()
def evaluate(  # noqa: PLR0913 - options of a command
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    particles: Annotated[int, typer.Option(min=1, help="K of the bound on log p(x).")] = 100,
    rows: Annotated[int, typer.Option(min=20, help="As many samples as rows, at most.")] = 2000,
    annealed: Annotated[int, typer.Option(min=0, help="AIS of so many rows, without q.")] = 0,
    seed: int = 0,
    data: Moved = None,
    folder: MovedFolder = None,
    model: Maker = None,
    *,
    classes: Annotated[bool, typer.Option("--classes", help="FID by a net of labels.")] = False,
) -> None:
    """Measure a run on its test data: a table, and evaluation.json in its folder."""
    made, split = _reopened(run, data, folder)
    asked = Asked(particles=particles, rows=rows, seed=seed, annealed=annealed, classes=classes)
    scores = score_run(run, _load(run, model), made, split, asked)
    typer.echo(f"{scores}\nwrote {run / 'evaluation.json'}")


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A .png or .npy.")] = Path(
        "samples.png"
    ),
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 64,
    seed: int = 0,
    model: Annotated[str | None, typer.Option(help="The module:Class that made the run.")] = None,
) -> None:
    """Draw samples from a run."""
    drawn = samples(_load(run, model), n, seed=seed)
    match out.suffix:
        case ".png":
            write_png(out, grid(pictures(drawn), columns=min(16, n), scale=4))
        case ".npy":
            import numpy as np

            np.save(out, drawn.numpy(), allow_pickle=False)
        case suffix:
            raise ValueError(f"samples are written as .png or .npy, not {suffix or 'no suffix'}")
    typer.echo(f"wrote {n} samples to {out}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A .pt2 or .onnx.")],
    output: Annotated[
        list[str] | None,
        typer.Option(help="x, x.mean, x.draw, sample or log_prob; once for each."),
    ] = None,
    given: Annotated[list[str] | None, typer.Option(help="An input; once for each.")] = None,
    of: Annotated[str, typer.Option(help="Which model: p, or its inference model q.")] = "p",
    model: Maker = None,
) -> None:
    """Export a decoder, generator or encoder for programs without this library."""
    pixels = read_run(run).pixels
    exported = export_run(_load(run, model), pixels, output, given, of=of)
    exported.save(out)
    typer.echo(f"{exported}\nwrote {out}")


@app.command()
def draw(
    what: Annotated[str, typer.Argument(help="A run's folder, vae, gan, or module:Class.")],
    out: Annotated[Path, typer.Option("-o", help=".svg, .png, .pdf, .html, .tex, .dot, .mmd.")],
    model: Annotated[str | None, typer.Option(help="The module:Class that made the run.")] = None,
    view: Annotated[str, typer.Option(help="Of a cost: conventional or hu.")] = "conventional",
) -> None:
    """Draw model, inference model, critic and cost."""
    if Path(what).is_dir():
        thing = _load(Path(what), model).objective
    elif what in GAMES:
        thing = _game(Run(what, "digits", 64), trust=True).objective
    else:
        thing = graph_of(_made(what))
    dg.draw(thing, view=view).save(out)
    typer.echo(f"wrote {out}")


@app.command()
def check(name: Name, q: Auxiliary = None, critic: Auxiliary = None) -> None:
    """Print the shapes and kinds of a model, and which objectives it admits."""
    if name in GAMES:
        game = _game(Run(name, "digits", 64), trust=True)
        p, other = game.p, game.q
        auxiliary = game.modules.get("critic")
    else:
        p, other = _import(name)(), _import(q)() if q else None
        auxiliary = _import(critic)() if critic else None
    typer.echo(f"{p.shapes()}\n\n{dg.objectives_for(p, other, auxiliary)}")


@app.command()
def ask(
    what: Annotated[str, typer.Argument(help="A run's folder, vae, gan, or module:Class.")],
    statement: Annotated[str, typer.Argument(help="x1, x2 _||_ y | z")],
    model: Annotated[str | None, typer.Option(help="The module:Class that made the run.")] = None,
) -> None:
    """Say whether variables are independent given others, and by which trail or reason."""
    graph = graph_of(_asked(what, model)[0])
    xs, ys, given = read_statement(statement)
    typer.echo(separation(graph, xs, ys, given=given))


@app.command()
def lint(
    p: Annotated[str, typer.Argument(help="A run's folder, vae, or module:Class of a model.")],
    q: Annotated[str | None, typer.Argument(help="module:Class of its inference model.")] = None,
    model: Annotated[str | None, typer.Option(help="The module:Class that made the run.")] = None,
) -> None:
    """Say which real dependence q ignores, and which of its parents are superfluous."""
    asked, own = _asked(p, model)
    other = _asked(q, None)[0] if q else own
    if other is None:
        raise ValueError(f"{p} brings no inference model: daguerre lint {p} module:Class")
    typer.echo(dg.structure.lint(asked, other))


@app.command()
def net(
    what: Annotated[str, typer.Argument(help="module:factory of an nn.Module, or a .onnx file.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help=".svg, .png, .pdf, .html, .tex, .dot, .mmd.")
    ],
    input: Annotated[  # noqa: A002 - what the net calls it
        list[str] | None,
        typer.Option(help="Sizes of one row of an input, 3,32,32; once per input."),
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Levels of modules; else all.")] = None,
    *,
    units: Annotated[bool, typer.Option("--units", help="Draw the units of each layer.")] = False,
    train: Annotated[bool, typer.Option("--train", help="Read in training mode.")] = False,
) -> None:
    """Draw a neural net as the graphical model it is."""
    if what.endswith(".onnx"):
        if train:
            raise ValueError("an ONNX file is in the mode it was exported in; leave out --train")
        made, example = dg.nets.from_onnx(what, depth=depth), _rows(input)
    else:
        module, example = _net(what, input)
        made = dg.from_module(module.train(train), *example, depth=depth)
    picture = dg.draw(unit_figure(dg.units(made, *example)) if units else made)
    picture.save(out)
    typer.echo(f"{len(made.graph.names)} variables, {'; '.join(made.notes)}\nwrote {out}")


@app.command()
def query(
    network: Annotated[Path, typer.Argument(help="A .bif, .uai or .json file, gzipped or not.")],
    targets: Annotated[list[str] | None, typer.Argument(help="Variables; else all.")] = None,
    given: Annotated[list[str] | None, typer.Option(help="NAME=STATE; once per variable.")] = None,
    rows: Annotated[Path | None, typer.Option(help="A CSV of evidence, one row each.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Default: posteriors.csv.")
    ] = None,
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Say how, and do not.")] = False,
) -> None:
    """Answer questions to a network: posteriors given evidence, exactly."""
    p = read_file(network)
    known = parse_given(p, given or [])
    if rows is not None:
        known = {**read_evidence_rows(p, rows), **known}
    asked = check_targets(p, targets) or [name for name in variables(p) if name not in known]
    if explain:
        typer.echo(dg.explain(p, asked, given=list(known)))
    elif rows is None and out is None:
        typer.echo(answer_table(p, asked, known))
    else:
        path = out or Path("posteriors.csv")
        count = answer_file(p, asked, known, path)
        typer.echo(f"wrote the posteriors of {count} rows to {path}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("runs/demo"),
    threads: Threads = 1,
) -> None:
    """Fit a VAE and a GAN, one graph and two costs, to real digits, and write a report."""
    torch.set_num_threads(threads)
    run_demo(out, typer.echo)


def _data(name: str, folder: Path | None) -> Split:
    if name == "digits":
        return dg.data.digits()
    if name in ("mnist", "fashion_mnist"):
        if folder is None:
            raise ValueError(f"--data {name} needs --folder, the folder that holds {name}/")
        return getattr(dg.data, name)(folder / name)
    if not name.endswith(".npy"):
        hint = did_you_mean(name, ("digits", "mnist", "fashion_mnist"))
        raise ValueError(f"--data is digits, mnist, fashion_mnist or a .npy, not {name!r}{hint}")
    return dg.data.array(name)


def _data_of(run: Run, data: str | None, folder: Path | None) -> Split:
    """Return the data of a run, from where they are now."""
    where = folder or (Path(run.folder) if run.folder else None)
    try:
        return _data(data or run.data, where)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the data of the run are not where they were: {error}; say where they are now,"
            " --data or --folder"
        ) from error


def _asked(what: str, model: str | None) -> tuple[Any, Any]:
    """Return the model or graph that a name stands for, and the q that it brings, or None."""
    if Path(what).is_dir():
        game = _load(Path(what), model)
    elif what in GAMES:
        game = _game(Run(what, "digits", 64), trust=True)
    else:
        return _made(what), None
    return game.p, game.q


def _made(name: str) -> Any:
    """Return what module:name holds, or makes when it is called without arguments."""
    found = _import(name)
    if isinstance(found, type) or not isinstance(found, dg.Graph | torch.nn.Module):
        return found()
    return found


def _net(what: str, sizes: list[str] | None) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    """Return the net that a name stands for, with what it is called with."""
    made = _made(what)
    module, *example = made if isinstance(made, tuple) else (made,)
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"{what} makes no torch.nn.Module but {module!r}")
    if not example and not sizes:
        raise ValueError(
            f"say what one row of each input of {what} looks like, --input 3,32,32, or let it"
            " return the net and an example: return net, x"
        )
    return module, tuple(example) or _rows(sizes)


def _rows(sizes: list[str] | None) -> tuple[torch.Tensor, ...]:
    """Draw two rows of each input."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for size in sizes or ():
        if not all(part.strip().isdigit() for part in size.split(",")):
            raise ValueError(f"--input takes sizes such as 3,32,32, not {size!r}")
        rows.append(torch.randn(2, *map(int, size.split(",")), generator=generator))
    return tuple(rows)


def _reopened(run: Path, data: str | None, folder: Path | None) -> tuple[Run, Split]:
    """Read what made a run, and its data again, on as many threads as it had."""
    made = read_run(run)
    torch.set_num_threads(made.options.get("threads", 1))
    return made, _data_of(made, data, folder)


def _train(out: Path, run: Run, split: Split, *, resume: bool, trust: bool = True) -> None:
    torch.manual_seed(run.settings.get("seed", 0))
    further = f"interrupted; go on with daguerre resume {out}"
    device = device_named(run.options.get("device", "cpu"))
    say = typer.echo if processes(device).is_main else _say_nothing
    game = _game(run, trust=trust)
    for module in game.modules.values():
        module.to(device)
    try:
        history = train(out, run, game, split, resume=resume)
    except SystemExit:  # by SIGTERM
        say(further)
        raise
    say(f"{history}\n{further if history.interrupted else f'wrote {out}'}")
    if history.interrupted:
        raise SystemExit(128 + signal.SIGINT)


def _say_nothing(text: str) -> None:
    """Leave it to process 0 of several to say what happened."""


def _load(folder: Path, model: str | None) -> Game:
    return read_game(folder, lambda run: _game(run, trust=model == run.name))


def _game(run: Run, *, trust: bool) -> Game:
    """Build a game of the gallery, or of the user's own classes if they are trusted."""
    if run.name in GAMES:
        return GAMES[run.name](run.pixels)
    if not trust:
        raise ValueError(
            f"this run was made by {run.name}; a run never imports code by itself: say"
            f" --model {run.name} if you trust it"
        )
    q, critic = (run.options.get(role) for role in ("q", "critic"))
    p = _import(run.name)()
    if q:
        other = _import(q)()
        return Game({"p": p, "q": other}, dg.elbo(p, other))
    if critic:
        auxiliary = _import(critic)()
        return Game({"p": p, "critic": auxiliary}, dg.gan(p, auxiliary))
    return Game({"p": p}, dg.nll(p))


def _import(name: str) -> Any:
    """Import `module:Class`, from the current folder too."""
    module, colon, attribute = name.partition(":")
    if not colon:
        hint = did_you_mean(name, GAMES)
        raise ValueError(f"{name!r} is neither in the gallery nor module:Class{hint}")
    sys.path.insert(0, str(Path.cwd()))
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        hint = did_you_mean(attribute, [n for n in dir(found) if not n.startswith("_")])
        raise ValueError(f"module {module} has no {attribute!r}{hint}")
    return getattr(found, attribute)


def main() -> None:
    """Run the command line; an error is one line on the error stream, and exit code 1."""
    try:
        app()
    except (ArithmeticError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        line, *_ = str(error).splitlines() or [type(error).__name__]
        typer.echo(f"error: {line}", err=True)
        sys.exit(1)
