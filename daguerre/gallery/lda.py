r"""Latent Dirichlet allocation: documents as mixtures of topics, inferred by a net.

$\beta_k \sim \mathrm{Dir}(\eta)$ over the words for each topic, $\theta_d \sim
\mathrm{Dir}(\alpha)$ over the topics for each document, and each word is
$w_{di} \sim \sum_k \theta_{dk} \beta_k$: the topic of a word is summed out. An example is a
corpus, w `[1, documents, words]` of word numbers with -1 beyond the end of a document.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Dirichlet
from torch.nn.functional import one_hot, softplus

import daguerre as dg
from daguerre.game import Game

__all__ = ["LDA", "Reader", "corpus", "lda"]


class LDA(dg.Model):
    """Topics are shared by all documents, which are a plate around the plate of their words.

    Args:
        words: The size of the vocabulary.
        topics: How many topics.
        spread: eta, of words in a topic.
        share: alpha, of topics in a document.

    References:
        Blei, Ng and Jordan (2003), *Latent Dirichlet allocation*, JMLR 3.

    Example:
        >>> LDA(words=50, topics=3).graph
        Graph(-> topics; -> share; topics, share => mixture; mixture -> w)
    """

    eta: Tensor
    alpha: Tensor
    document, word = dg.Plate("document"), dg.Plate("word")

    def __init__(
        self, words: int, topics: int, *, spread: float = 0.1, share: float = 0.5
    ) -> None:
        super().__init__()
        self.register_buffer("eta", torch.full((topics, words), spread))
        self.register_buffer("alpha", torch.full((topics,), share))

    @dg.rv
    def topics(self):
        return Dirichlet(self.eta)

    @document
    @dg.rv
    def share(self):
        return Dirichlet(self.alpha)

    @document
    @dg.deterministic
    def mixture(self, topics: Tensor, share: Tensor):
        return (share[:, None] @ topics).squeeze(1)

    @document
    @word
    @dg.rv
    def w(self, mixture: Tensor):
        return Categorical(mixture)


class Reader(dg.Model):
    """An inference model: a net reads how often each word comes, and guesses the topics.

    Args:
        p: The model.
        hidden: Width of the net.

    References:
        Srivastava and Sutton (2017, arXiv 1703.01488), for amortised topic models.
    """

    document = LDA.document
    counts = document(dg.Input())

    def __init__(self, p: LDA, hidden: int = 64) -> None:
        super().__init__()
        topics, words = p.eta.shape
        self.net = dg.nn.mlp(words, hidden, topics)
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(topics, words))

    @dg.rv
    def topics(self):
        return Dirichlet(softplus(self.weight) ** 2)

    @document
    @dg.rv
    def share(self, counts: Tensor):
        total = counts.sum(1, keepdim=True)
        return Dirichlet(0.1 + total * self.net(counts / total.clamp_min(1)).softmax(1))


def lda(words: int, topics: int) -> Game:
    """Build model, inference model and ELBO, of which rows lack the words beyond the end."""
    p = LDA(words, topics)
    q = Reader(p)
    cost = dg.elbo(p, q, observed=["w", "counts"], partial=["w"])
    return Game({"p": p, "q": q}, cost, {"steps": 2000, "lr": 0.01})


def corpus(w: Tensor, words: int) -> dict[str, Tensor]:
    """Return the data of a corpus: its words, and how often each comes in each document.

    Args:
        w: Numbers of words `[documents, words]`, -1 beyond the end.
        words: The size of the vocabulary.

    Example:
        >>> corpus(torch.tensor([[0, 2, 2], [1, -1, -1]]), words=3)["counts"]
        tensor([[[1., 0., 2.],
                 [0., 1., 0.]]])
    """
    counts = (one_hot(w.clamp_min(0), words) * (w >= 0)[..., None]).sum(1).float()
    return {"w": w[None], "counts": counts[None]}
