"""What the graph alone can answer."""
__all__: list[str] = []
