"""All measures, for `dg.evaluate(p, q, data, measures=[...])`; as `dg.measures` in programs.

| measure | of models | finds |
|---|---|---|
| `ELBO`, `IWAE` | with a density and a q | bounds of log p(x), such as the ELBO |
| `AIS`, `BDMC` | with a density and continuous latents | log p(x), and how far off it is |
| `RateDistortion`, `UnitRates`, `AggregateSplit` | with a density and a q | its parts |
| `ActiveUnits` | with a density and a q | how many latents move with the data |
| `Calibration` | with a q or any posterior | whether it is as wide as it should be |
| `MMD2`, `C2ST`, `FID`, `KID` | all | how far samples are from data |
| `Manifold` | all | precision, recall, density, coverage |
| `ClassScore` | all, with a classifier | whether samples are of one class each, and of all |
| `Memorisation` | all, with the training data | whether samples are copies |
| `CriticRatio` | with a critic | divergences by its word |
"""

from daguerre.evaluate.annealed import AIS, BDMC, Annealing
from daguerre.evaluate.bounds import ELBO, IWAE
from daguerre.evaluate.calibration import Calibration
from daguerre.evaluate.classes import ClassScore
from daguerre.evaluate.features import Classifier, Features, train_classifier
from daguerre.evaluate.frechet import FID, KID
from daguerre.evaluate.latents import ActiveUnits, AggregateSplit, RateDistortion, UnitRates
from daguerre.evaluate.manifold import Manifold
from daguerre.evaluate.memory import Memorisation
from daguerre.evaluate.ratio import CriticRatio
from daguerre.evaluate.samples import C2ST, MMD2
from daguerre.evaluate.scores import Score, Scores
from daguerre.evaluate.subject import Measure, Subject

__all__ = [
    "AIS",
    "BDMC",
    "C2ST",
    "ELBO",
    "FID",
    "IWAE",
    "KID",
    "MMD2",
    "ActiveUnits",
    "AggregateSplit",
    "Annealing",
    "Calibration",
    "ClassScore",
    "Classifier",
    "CriticRatio",
    "Features",
    "Manifold",
    "Measure",
    "Memorisation",
    "RateDistortion",
    "Score",
    "Scores",
    "Subject",
    "UnitRates",
    "train_classifier",
]
