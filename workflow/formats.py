"""All artifact formats, for the reference page and the checks."""

from __future__ import annotations

from stages.artifacts.formats.class_results import CLASS_SCORES
from stages.artifacts.formats.comparisons import COMPARISONS
from stages.artifacts.formats.episode_results import RESULTS
from stages.artifacts.formats.episodes import EPISODES
from stages.artifacts.formats.examples import EXAMPLES
from stages.artifacts.formats.features import FEATURES
from stages.artifacts.formats.hierarchies import HIERARCHIES
from stages.artifacts.formats.images import IMAGES
from stages.artifacts.formats.index import INDEX
from stages.artifacts.formats.prototypes import PROTOTYPES
from stages.artifacts.formats.pseudolabels import PSEUDOLABELS
from stages.artifacts.formats.regions import REGIONS
from stages.artifacts.formats.results import SCORES
from stages.artifacts.formats.training_log import LOG

HDF5_SPECS = (IMAGES, INDEX, HIERARCHIES, REGIONS, FEATURES, PROTOTYPES, PSEUDOLABELS, EXAMPLES)
TABLE_SPECS = (EPISODES, RESULTS, LOG, SCORES, CLASS_SCORES, COMPARISONS)
