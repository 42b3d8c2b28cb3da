"""All specs of artifacts, for the reference page and the checks."""

from __future__ import annotations

from novelseg.formats.class_results import CLASS_SCORES
from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.episode_results import RESULTS
from novelseg.formats.episodes import EPISODES
from novelseg.formats.examples import EXAMPLES
from novelseg.formats.features import FEATURES
from novelseg.formats.hierarchies import HIERARCHIES
from novelseg.formats.images import IMAGES
from novelseg.formats.index import INDEX
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.pseudolabels import PSEUDOLABELS
from novelseg.formats.regions import REGIONS
from novelseg.formats.results import SCORES
from novelseg.formats.training_log import LOG

HDF5_SPECS = (IMAGES, INDEX, HIERARCHIES, REGIONS, FEATURES, PROTOTYPES, PSEUDOLABELS, EXAMPLES)
TABLE_SPECS = (EPISODES, RESULTS, LOG, SCORES, CLASS_SCORES, COMPARISONS)
