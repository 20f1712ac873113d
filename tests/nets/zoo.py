"""Nets of many kinds, written as their users write them: each with what it is called with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal


class Block(nn.Module):
    def __init__(self, ins: int, outs: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.downsample = None
        if stride != 1 or ins != outs:
            conv = nn.Conv2d(ins, outs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet18(nn.Module):
    """He et al. (2015), arXiv 1512.03385, with a width for tests."""

    def __init__(self, width: int = 4, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(width, width), Block(width, width))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width))
        self.layer4 = nn.Sequential(Block(4 * width, 8 * width, 2), Block(8 * width, 8 * width))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def stage(ins: int, outs: int) -> nn.Module:
    convs = nn.Conv2d(ins, outs, 3, 1, 1), nn.Conv2d(outs, outs, 3, 1, 1)
    return nn.Sequential(convs[0], nn.GroupNorm(2, outs), nn.SiLU(), convs[1], nn.SiLU())


class UNet(nn.Module):
    """Ronneberger, Fischer and Brox (2015), arXiv 1505.04597, two levels deep."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.down1, self.down2 = stage(1, width), stage(width, 2 * width)
        self.middle = stage(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.join2, self.join1 = stage(4 * width, 2 * width), stage(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(nn.functional.max_pool2d(one, 2))
        deep = self.middle(nn.functional.max_pool2d(two, 2))
        two = self.join2(torch.cat([self.up2(deep), two], 1))
        return self.head(self.join1(torch.cat([self.up1(two), one], 1)))


class Branching(nn.Module):
    """Takes another layer when the data is negative on average."""

    def __init__(self):
        super().__init__()
        self.plus, self.minus = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            return self.plus(x)
        return self.minus(x)


class Looping(nn.Module):
    """Runs as often as the data says, and reads a number out of a tensor."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.abs().max()) + 1):
            x = self.fc(x)
        return x * float(x.mean())


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.fc(torch.relu(self.fc(self.embedding(tokens))))
        return self.head(h)


class InPlace(nn.Module):
    """Writes into slices, by masks and through views."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        h[:, 0] = 1.0
        h[h > 0.5] = 0.5
        view = h.view(-1, 2, 3)
        view[:, 1].mul_(2.0)
        h += x
        return h.clamp_(-1.0, 1.0)


class AutoEncoder(nn.Module):
    """A VAE's pass with torch's distributions, its draw and several outputs."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(2, 6)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        loc, log_scale = self.encoder(batch["x"]).chunk(2, -1)
        z = Normal(loc, log_scale.exp()).rsample()
        return {"x": torch.sigmoid(self.decoder(z)), "q": (loc, log_scale)}


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.drop = nn.Linear(5, 5), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.fc(x))
        h = h + 0.1 * torch.randn_like(h)
        return torch.bernoulli(torch.sigmoid(h))


class Recurrence(nn.Module):
    """A loop over time with a state that begins as zeros of the batch's size."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 4)
        out = []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            out.append(self.head(h))
        return torch.stack(out, 1)


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        with torch.no_grad():
            h = torch.tanh(self.body(x))
        return self.head(h) * scale


class Tokens(nn.Module):
    """A causal Transformer with learned positions, batch second inside."""

    def __init__(self):
        super().__init__()
        self.embedding, self.position = nn.Embedding(11, 8), nn.Embedding(6, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embedding(tokens) + self.position(torch.arange(tokens.size(1)))
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.size(1))
        return self.head(self.body(h.transpose(0, 1), mask=mask).transpose(0, 1))


class Deep(nn.Module):
    """A net of as many operations as asked."""

    def __init__(self, ops: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(ops // 2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    example: Callable[[int], tuple[Any, ...]]
    train: bool = False


def rows(*event: int) -> Callable[[int], tuple[Any, ...]]:
    return lambda n: (torch.randn(n, *event),)


def tokens(size: int, length: int) -> Callable[[int], tuple[Any, ...]]:
    return lambda n: (torch.randint(size, (n, length)),)


def encoder(*, first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=first, dropout=0.2)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


ZOO = {
    "mlp": Case(lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), rows(3)),
    "resnet18": Case(ResNet18, rows(3, 32, 32)),
    "unet": Case(UNet, rows(1, 8, 8)),
    "lstm": Case(lambda: nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True), rows(7, 4)),
    "gru": Case(lambda: nn.GRU(4, 5, batch_first=True), rows(7, 4)),
    "transformer": Case(lambda: encoder(first=True), rows(5, 8)),
    "transformer, training": Case(lambda: encoder(first=True), rows(5, 8), train=True),
    "causal transformer": Case(Tokens, tokens(11, 6)),
    "shared": Case(Shared, tokens(7, 5)),
    "in place": Case(InPlace, rows(6)),
    "recurrence": Case(Recurrence, rows(4, 3)),
    "no_grad": Case(Frozen, lambda n: (torch.randn(n, 3), torch.randn(n, 1))),
    "dict and draws": Case(AutoEncoder, lambda n: ({"x": torch.randn(n, 6)},), train=True),
    "dropout": Case(Noisy, rows(5), train=True),
    "deep": Case(lambda: Deep(60), rows(4)),
}


def build(name: str, n: int = 3) -> tuple[nn.Module, tuple[Any, ...]]:
    case = ZOO[name]
    torch.manual_seed(1)
    net = case.make().train(case.train)
    return net, case.example(n)
