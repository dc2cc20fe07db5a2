"""How much each baseline counts for an input: rules for `WeightedGradients.attribute(weighting=...)`."""

from captum_wg.weighting.both import Both
from captum_wg.weighting.deletion import Deletion
from captum_wg.weighting.equal import Equal
from captum_wg.weighting.fitness import FitnessWeighting
from captum_wg.weighting.insertion import Insertion
from captum_wg.weighting.maps import Maps, StoredMaps

__all__ = ["Both", "Deletion", "Equal", "FitnessWeighting", "Insertion", "Maps", "StoredMaps"]
