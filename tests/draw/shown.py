"""What an opened page shows."""

__all__ = ["arrows", "body", "finding", "marked", "node", "window"]


def node(name: str, view: str = ".view:not([hidden])") -> str:
    return f'{view} g.node[data-name="{name}"]'


def body(name: str) -> str:
    return f"{node(name)} > .hit"


def marked(shown, mark: str) -> set[str]:
    names = "nodes => nodes.map(n => n.dataset.name)"
    return {*shown.eval_on_selector_all(f".view:not([hidden]) g.node.{mark}", names)}


def arrows(shown, selector: str) -> set[tuple[str, str]]:
    pairs = "all => all.map(a => [a.dataset.source, a.dataset.target])"
    found = shown.eval_on_selector_all(f".view:not([hidden]) g.arrow{selector}", pairs)
    return {(a, b) for a, b in found}


def window(shown) -> list[float]:
    box = shown.locator(".view:not([hidden]) > svg").first.get_attribute("viewBox")
    return [float(number) for number in box.split()]


def finding(shown) -> str:
    return shown.locator(".finding").first.inner_text()
